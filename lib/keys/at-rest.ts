import { link, open, readFile, rename, rm } from 'node:fs/promises'
import { basename, dirname } from 'node:path'
import { ParcelError } from '../errors.js'
import { NONCE_BYTES } from '../format/limits.js'
import { keyedHash } from './hash.js'
import { NS } from './namespaces.js'
import { randomBytes } from './identity.js'
import { sodium } from './sodium.js'

const NO_LINKS = new Set(['EPERM', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS', 'EMLINK'])
const MAX_SEALED_FILE = 64 * 1024 * 1024

/** Writes a small file so that after a crash it is the old one or the new one, never a part. Mode 0600. */
export async function writeFileAtomic(path: string, bytes: Uint8Array): Promise<void> {
  const temporary = `${path}.${process.pid}.tmp`
  try {
    await writeDurably(temporary, bytes)
    await rename(temporary, path)
  } catch (error) {
    await rm(temporary, { force: true })
    throw error
  }
  await makeDurable(dirname(path))
}

/** Like `writeFileAtomic`, but fails with EEXIST when the file is there. */
export async function createFileAtomic(path: string, bytes: Uint8Array): Promise<void> {
  const temporary = `${path}.${process.pid}.tmp`
  try {
    await writeDurably(temporary, bytes)
    await link(temporary, path).catch(async (error: unknown) => {
      const code = error instanceof Error && 'code' in error ? String(error.code) : ''
      if (!NO_LINKS.has(code)) throw error
      // The file systems of sticks know no links: in two steps, then.
      await (await open(path, 'wx', 0o600)).close()
      await rename(temporary, path)
    })
  } finally {
    await rm(temporary, { force: true })
  }
  await makeDurable(dirname(path))
}

/** Writes a file that only this host can read: nonce, then the sealed box; the file's name is bound in. */
export async function writeSealed(path: string, key: Buffer, bytes: Buffer): Promise<void> {
  if (bytes.byteLength > MAX_SEALED_FILE) throw new RangeError(`${path} would be too large to read`)
  const nonce = randomBytes(NONCE_BYTES)
  const box = Buffer.alloc(bytes.byteLength + sodium.crypto_secretbox_MACBYTES)
  sodium.crypto_secretbox_easy(box, bytes, nonce, fileKey(key, path))
  await writeFileAtomic(path, Buffer.concat([nonce, box]))
}

/** Reads what `writeSealed` wrote. Throws BAD_KEY if it was sealed by another host or is damaged. */
export async function readSealed(path: string, key: Buffer): Promise<Buffer> {
  const sealed = await readFile(path)
  const length = sealed.byteLength - NONCE_BYTES - sodium.crypto_secretbox_MACBYTES
  const out = Buffer.alloc(Math.max(length, 0))
  const nonce = sealed.subarray(0, NONCE_BYTES)
  const box = sealed.subarray(NONCE_BYTES)
  if (
    length < 0 ||
    length > MAX_SEALED_FILE ||
    !sodium.crypto_secretbox_open_easy(out, box, nonce, fileKey(key, path))
  ) {
    throw new ParcelError(
      'BAD_KEY',
      `${path} does not open with this host's key: is it from another host?`
    )
  }
  return out
}

/** Makes what was written to a file durable, or renames and creations in a folder. */
export async function makeDurable(path: string | Buffer): Promise<void> {
  const handle = await open(path, 'r')
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}

async function writeDurably(path: string, bytes: Uint8Array): Promise<void> {
  const handle = await open(path, 'w', 0o600)
  try {
    await handle.writeFile(bytes)
    await handle.sync()
  } finally {
    await handle.close()
  }
}

function fileKey(key: Buffer, path: string): Buffer {
  return keyedHash(key, NS.atRest, Buffer.from(basename(path)))
}
