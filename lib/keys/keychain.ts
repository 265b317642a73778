import { ParcelError } from '../errors.js'

const SERVICE = 'hyperparcel'
/** The kernel's keyring is gone after a restart: on Linux it has to be the desktop's. */
const STORE = { linux: { store: 'secret-service' } } as const

/** Keeps a secret in the keychain of the operating system. Throws FAILED where there is none. */
export async function keep(account: string, secret: string): Promise<void> {
  try {
    await (await entryOf(account)).setPassword(secret)
  } catch (error) {
    throw noKeychain('FAILED', error)
  }
}

/** What `keep` kept. Throws LOCKED when it is not to be had. */
export async function keptSecret(account: string): Promise<string> {
  let secret: string | null
  try {
    secret = await (await entryOf(account)).getPassword()
  } catch (error) {
    throw noKeychain('LOCKED', error)
  }
  if (secret !== null) return secret
  throw new ParcelError(
    'LOCKED',
    "this user's keychain has no key of this host: restore the host by its 24 words"
  )
}

/** Forgets what `keep` kept, if it can. */
export async function forget(account: string): Promise<void> {
  await (await entryOf(account)).deletePassword().catch(() => false)
}

/** The package is loaded by who needs it: it talks to a desktop's services. */
async function entryOf(account: string) {
  const { AsyncEntry } = await import('@napi-rs/keyring')
  return new AsyncEntry(SERVICE, account, STORE)
}

function noKeychain(code: 'FAILED' | 'LOCKED', error: unknown): ParcelError {
  return new ParcelError(
    code,
    'the keychain of this session cannot be used: unlock it, or run inside a desktop session',
    error
  )
}
