import { ParcelError } from '../errors.js'
import { Identity, randomBytes } from './identity.js'
import { forget, keep, keptSecret } from './keychain.js'
import { leastStretch, lock, newStretch, SALT_BYTES, unlock, type Stretch } from './lock.js'

/** How the secret in a key file is kept: in the clear, or under a passphrase, which a keychain may know. */
export const LOCKS = ['none', 'passphrase', 'keychain'] as const
export type LockKind = (typeof LOCKS)[number]

/** A host's key file: who it is, for everybody who can read it, and its secret. */
export interface KeyFile {
  name: string
  /** Hex. A file of format 1 has none; its secret says it. */
  publicKey: string
  lock: LockKind
  /** null: the secret is in the clear. */
  stretch: Stretch | null
  secret: Buffer
}

const HEADER = /^hyperparcel identity (\d{1,9})\n/
const FORMAT_1 = /^hyperparcel identity 1\nname ([^\n]+)\nsecret ([0-9a-f]{192})\n$/
const FORMAT_2 =
  /^hyperparcel identity 2\nname ([^\n]+)\npublic ([0-9a-f]{64})\nlock (none|passphrase|keychain)(?: (\d{1,6}) (\d{1,12}) ([0-9a-f]{2,128}))?\nsecret ([0-9a-f]{192,512})\n$/

/** Reads a key file's text; `path` is for messages. Throws BAD_KEY, NEWER_FORMAT. */
export function parseKeyFile(text: string, path: string): KeyFile {
  const [, format = '0'] = HEADER.exec(text) ?? []
  if (Number(format) > 2) {
    throw new ParcelError('NEWER_FORMAT', `${path} is of a newer hyperparcel: update this one`)
  }
  const [, oldName, oldSecret] = FORMAT_1.exec(text) ?? []
  if (oldName !== undefined && oldSecret !== undefined) {
    const secret = Buffer.from(oldSecret, 'hex')
    const publicKey = Identity.import(secret).publicKey.toString('hex')
    return { name: oldName, publicKey, lock: 'none', stretch: null, secret }
  }
  const [, name, publicKey, kind, passes, memory, salt, secret] = FORMAT_2.exec(text) ?? []
  const found = LOCKS.find((each) => each === kind)
  const isLocked = passes !== undefined && salt?.length === 2 * SALT_BYTES
  if (!name || !publicKey || !secret || !found || isLocked === (found === 'none')) {
    throw new ParcelError('BAD_KEY', `${path} is damaged: restore it, or use its 24 words`)
  }
  const stretch = isLocked
    ? { passes: Number(passes), memory: Number(memory), salt: Buffer.from(salt, 'hex') }
    : null
  return { name, publicKey, lock: found, stretch, secret: Buffer.from(secret, 'hex') }
}

export function keyFileText({ name, publicKey, lock: kind, stretch, secret }: KeyFile): string {
  const how = stretch && ` ${stretch.passes} ${stretch.memory} ${stretch.salt.toString('hex')}`
  return (
    `hyperparcel identity 2\nname ${name}\npublic ${publicKey}\nlock ${kind}${how ?? ''}\n` +
    `secret ${secret.toString('hex')}\n`
  )
}

/** Opens a key file. Throws LOCKED without the passphrase that it needs, BAD_KEY with another. */
export async function openKeyFile(file: KeyFile, passphrase: string | null): Promise<Identity> {
  const secret = await secretOf(file, passphrase)
  const identity = secret === null ? null : Identity.import(secret)
  if (identity?.publicKey.toString('hex') === file.publicKey) return identity
  throw new ParcelError(
    'BAD_KEY',
    file.lock === 'passphrase'
      ? 'this is not the passphrase of this host: do it again'
      : 'identity.key is damaged: restore it, or use its 24 words'
  )
}

/** The key file of an identity under another lock. Throws FAILED where there is no keychain. */
export async function lockedFile(
  { name, identity }: { name: string; identity: Identity },
  kind: LockKind,
  passphrase: string
): Promise<KeyFile> {
  const publicKey = identity.publicKey.toString('hex')
  const secret = identity.export()
  if (kind === 'none') return { name, publicKey, lock: kind, stretch: null, secret }
  const isKept = kind === 'keychain'
  const stretch = isKept ? leastStretch() : newStretch()
  const word = isKept ? randomBytes(32).toString('hex') : passphrase
  if (isKept) await keep(accountOf(publicKey, stretch), word)
  const sealed = await lock(secret, word, stretch)
  return { name, publicKey, lock: kind, stretch, secret: sealed }
}

/** Takes a file's secret out of the keychain, when another file has replaced it. */
export async function forgetKept({ lock: kind, publicKey, stretch }: KeyFile): Promise<void> {
  if (kind === 'keychain' && stretch !== null) await forget(accountOf(publicKey, stretch))
}

/** One for each lock: the file of before opens until the next has taken its place. */
function accountOf(publicKey: string, { salt }: Stretch): string {
  return `${publicKey.slice(0, 16)} ${salt.toString('hex', 0, 8)}`
}

async function secretOf(file: KeyFile, passphrase: string | null): Promise<Buffer | null> {
  if (file.stretch === null) return file.secret
  const isKept = file.lock === 'keychain'
  const word = isKept ? await keptSecret(accountOf(file.publicKey, file.stretch)) : passphrase
  if (word === null) {
    throw new ParcelError(
      'LOCKED',
      'this host has a passphrase: give it when asked, or as HYPERPARCEL_PASSPHRASE'
    )
  }
  return unlock(file.secret, word, file.stretch)
}
