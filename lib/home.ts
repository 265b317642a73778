import { constants } from 'node:fs'
import { access, chmod, lstat, mkdir, readFile, realpath } from 'node:fs/promises'
import { homedir, hostname } from 'node:os'
import { join, resolve } from 'node:path'
import envPaths from 'env-paths'
import { ParcelError } from './errors.js'
import { createFileAtomic } from './keys/at-rest.js'
import { Identity } from './keys/identity.js'
import { hasCode } from './paths.js'

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
export async function createHome(wanted: string, name = hostname()): Promise<Home> {
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
  const identity = Identity.create()
  const text = `${HEADER}\nname ${name}\nsecret ${identity.export().toString('hex')}\n`
  try {
    await createFileAtomic(join(dir, KEY_FILE), Buffer.from(text))
  } catch (error) {
    if (!hasCode(error, 'EEXIST')) throw error
    throw new ParcelError('NAME_TAKEN', `${dir} is a host already: see 'hyperparcel id'`)
  }
  await makeFolders(dir)
  return { dir, name, identity }
}

/** Opens a home. Throws NO_STORE, NOT_YOURS, BAD_KEY, NEWER_FORMAT. */
export async function openHome(wanted: string): Promise<Home> {
  const dir = await requireOurs(wanted)
  const path = join(dir, KEY_FILE)
  let text: string
  try {
    text = await readFile(path, 'utf8')
  } catch (error) {
    if (hasCode(error, 'ENOENT')) throw noStore(dir)
    throw ParcelError.from(error, `cannot read ${path}`)
  }
  const match = /^hyperparcel identity (\d+)\nname ([^\n]+)\nsecret ([0-9a-f]{192})\n$/.exec(text)
  const [, format = '0'] = /^hyperparcel identity (\d{1,9})\n/.exec(text) ?? []
  if (Number(format) > 1) {
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
