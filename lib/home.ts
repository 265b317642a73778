import { chmod, lstat, mkdir, readFile } from 'node:fs/promises'
import { homedir, hostname } from 'node:os'
import { join, resolve } from 'node:path'
import envPaths from 'env-paths'
import { ParcelError } from './errors.js'
import { createFileAtomic } from './keys/at-rest.js'
import { Identity } from './keys/identity.js'

/** Where everything of one host lives. Its only secret in the clear is the key file. */
export interface Home {
  dir: string
  name: string
  identity: Identity
}

const KEY_FILE = 'identity.key'
const HEADER = 'hyperparcel identity 1'

/** `--home`, else HYPERPARCEL_HOME, else the platform's data folder. */
export function homeDir(explicit?: string): string {
  const chosen = explicit ?? process.env['HYPERPARCEL_HOME'] ?? ''
  if (chosen !== '') return resolve(chosen.replace(/^~(?=\/|$)/, homedir()))
  return envPaths('hyperparcel', { suffix: '' }).data
}

/** Makes a home with a new identity. Throws NAME_TAKEN when there is one, NOT_YOURS. */
export async function createHome(dir: string, name = hostname()): Promise<Home> {
  if (!/^[^\p{C}]{1,64}$/u.test(name)) {
    throw new ParcelError('USAGE', 'a host name has 1 to 64 printable characters')
  }
  await mkdir(dir, { recursive: true, mode: 0o700 })
  await requireOurs(dir)
  await chmod(dir, 0o700)
  const identity = Identity.create()
  const text = `${HEADER}\nname ${name}\nsecret ${identity.export().toString('hex')}\n`
  try {
    await createFileAtomic(join(dir, KEY_FILE), Buffer.from(text))
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'EEXIST')) throw error
    throw new ParcelError('NAME_TAKEN', `${dir} is a host already: see 'hyperparcel id'`)
  }
  await makeFolders(dir)
  return { dir, name, identity }
}

/** Opens a home. Throws NO_STORE, NOT_YOURS, BAD_KEY, NEWER_FORMAT. */
export async function openHome(dir: string): Promise<Home> {
  await requireOurs(dir)
  const path = join(dir, KEY_FILE)
  let text: string
  try {
    text = await readFile(path, 'utf8')
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') throw noStore(dir)
    throw ParcelError.from(error, `cannot read ${path}`)
  }
  const match = /^hyperparcel identity (\d+)\nname ([^\n]+)\nsecret ([0-9a-f]{192})\n$/.exec(text)
  if (match?.[1] !== undefined && Number(match[1]) > 1) {
    throw new ParcelError('NEWER_FORMAT', `${path} is of a newer hyperparcel: update this one`)
  }
  const [, , name, secret] = match ?? []
  if (name === undefined || secret === undefined) {
    throw new ParcelError('BAD_KEY', `${path} is damaged: restore it from a backup`)
  }
  await makeFolders(dir)
  return { dir, name, identity: Identity.import(Buffer.from(secret, 'hex')) }
}

async function makeFolders(dir: string): Promise<void> {
  for (const name of ['parcels', 'run']) {
    await mkdir(join(dir, name), { recursive: true, mode: 0o700 })
  }
}

async function requireOurs(dir: string): Promise<void> {
  let stats
  try {
    stats = await lstat(dir)
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') throw noStore(dir)
    throw new ParcelError('NOT_YOURS', `cannot look at ${dir}: is it another user's?`, error)
  }
  const me = process.getuid?.()
  if (!stats.isDirectory()) throw new ParcelError('NO_STORE', `${dir} is not a folder`)
  if (me !== undefined && stats.uid !== me) {
    throw new ParcelError('NOT_YOURS', `${dir} belongs to another user: choose another with --home`)
  }
}

function noStore(dir: string): ParcelError {
  return new ParcelError('NO_STORE', `no host in ${dir}: run 'hyperparcel init' first`)
}
