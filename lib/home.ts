import { constants } from 'node:fs'
import { access, chmod, lstat, mkdir, readFile, realpath, rm, writeFile } from 'node:fs/promises'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { ParcelError } from './errors.js'
import { createFileAtomic, writeFileAtomic } from './keys/at-rest.js'
import { Identity } from './keys/identity.js'
import {
  forgetKept,
  keyFileText,
  lockedFile,
  openKeyFile,
  parseKeyFile,
  type KeyFile,
  type LockKind
} from './keys/key-file.js'
import { hasCode } from './paths.js'

/** Where everything of one host lives. Its only secret in the clear is the key file. */
export interface Home {
  dir: string
  name: string
  identity: Identity
  /** It was made from a recovery phrase: its parcels are where other hosts are. */
  isRestored: boolean
}

/** A home as anybody who may look into it finds it: its secret can be under a passphrase. */
export interface ClosedHome {
  dir: string
  key: KeyFile
}

const KEY_FILE = 'identity.key'
/** A number of bytes. */
const QUOTA = 'quota'
/** An empty file: see `isRestored`. */
const RESTORED = 'restored'

/**
 * Makes a home, with a new identity or that of a recovery phrase's `seed`. Throws NAME_TAKEN when there is
 * one, NOT_YOURS.
 */
export async function createHome(
  wanted: string,
  name = hostname(),
  seed: Buffer | null = null
): Promise<Home> {
  if (!/^[^\p{C}]{1,64}$/u.test(name)) {
    throw new ParcelError('USAGE', 'a host name has 1 to 64 printable characters')
  }
  try {
    await mkdir(wanted, { recursive: true, mode: 0o700 })
  } catch (error) {
    if (!hasCode(error, 'EEXIST', 'ENOTDIR')) throw ParcelError.from(error, `cannot make ${wanted}`)
    throw new ParcelError(
      'NO_STORE',
      `${wanted} is not a folder: choose another with --home`,
      error
    )
  }
  const dir = await requireOurs(wanted)
  await chmod(dir, 0o700)
  const identity = seed === null ? Identity.create() : Identity.restore(seed)
  const file = await lockedFile({ name, identity }, 'none', '')
  const isRestored = seed !== null && !(await isThere(join(dir, KEY_FILE)))
  // Before the key: a host that has that and not this would never look for its parcels.
  if (isRestored) await writeFile(join(dir, RESTORED), '')
  try {
    await createFileAtomic(join(dir, KEY_FILE), Buffer.from(keyFileText(file)))
  } catch (error) {
    if (!hasCode(error, 'EEXIST')) throw error
    throw new ParcelError('NAME_TAKEN', `${dir} is a host already: see 'hyperparcel id'`)
  }
  await makeFolders(dir)
  return { dir, name, identity, isRestored }
}

/** Looks at a home without opening its key. Throws NO_STORE, NOT_YOURS, BAD_KEY, NEWER_FORMAT. */
export async function readHome(wanted: string): Promise<ClosedHome> {
  const dir = await requireOurs(wanted)
  const path = join(dir, KEY_FILE)
  let text: string
  try {
    text = await readFile(path, 'utf8')
  } catch (error) {
    if (hasCode(error, 'ENOENT')) throw noStore(dir)
    throw ParcelError.from(error, `cannot read ${path}`)
  }
  const key = parseKeyFile(text, path)
  await makeFolders(dir)
  return { dir, key }
}

/**
 * Opens a home; `passphrase` default HYPERPARCEL_PASSPHRASE. Throws like `readHome`, LOCKED without
 * the passphrase that it needs.
 */
export async function openHome(wanted: string, passphrase?: string): Promise<Home> {
  const { dir, key } = await readHome(wanted)
  const given = passphrase ?? process.env['HYPERPARCEL_PASSPHRASE'] ?? ''
  const identity = await openKeyFile(key, given === '' ? null : given)
  const isRestored = await isThere(join(dir, RESTORED))
  return { dir, name: key.name, identity, isRestored }
}

/** Puts a home's secret under another lock. A daemon that runs goes on. Throws like `openHome`, FAILED. */
export async function lockHome(
  wanted: string,
  { lock, passphrase, before }: { lock: LockKind; passphrase: string; before?: string }
): Promise<void> {
  const { dir, key } = await readHome(wanted)
  const { name, identity } = await openHome(dir, before)
  const file = await lockedFile({ name, identity }, lock, passphrase)
  await writeFileAtomic(join(dir, KEY_FILE), Buffer.from(keyFileText(file)))
  await forgetKept(key)
}

/** How many bytes a host may keep of others' data; Infinity: nobody has said. */
export async function readQuota(dir: string): Promise<number> {
  const text = await readFile(join(dir, QUOTA), 'utf8').catch(() => '')
  return /^\d{1,15}\n$/.test(text) ? Number(text) : Infinity
}

/** null: as many as there are. */
export async function writeQuota(dir: string, bytes: number | null): Promise<void> {
  if (bytes === null) await rm(join(dir, QUOTA), { force: true })
  else await writeFileAtomic(join(dir, QUOTA), Buffer.from(`${bytes}\n`))
}

function isThere(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false
  )
}

async function makeFolders(dir: string): Promise<void> {
  for (const name of ['parcels', 'run']) {
    await mkdir(join(dir, name), { recursive: true, mode: 0o700 })
  }
}

/** The home's real path, if it is a folder of this user's. */
async function requireOurs(wanted: string): Promise<string> {
  let dir: string
  let stats
  try {
    dir = await realpath(wanted)
    stats = await lstat(dir)
    await access(dir, constants.R_OK | constants.X_OK)
  } catch (error) {
    if (hasCode(error, 'ENOENT')) throw noStore(wanted)
    throw new ParcelError('NOT_YOURS', `cannot look into ${wanted}: is it another user's?`, error)
  }
  const me = process.getuid?.()
  if (!stats.isDirectory()) throw new ParcelError('NO_STORE', `${dir} is not a folder`)
  if (me !== undefined && stats.uid !== me) {
    throw new ParcelError('NOT_YOURS', `${dir} belongs to another user: choose another with --home`)
  }
  return dir
}

function noStore(dir: string): ParcelError {
  return new ParcelError('NO_STORE', `no host in ${dir}: run 'hyperparcel init' first`)
}
