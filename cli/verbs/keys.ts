import type { Command } from 'commander'
import { homeDir, ParcelError } from '../../lib/client.js'
import type { LockKind } from '../../lib/index.js'
import { library, verb } from '../context.js'
import { ask } from '../prompt.js'

/** Fewer characters are found by trying all. */
const LEAST = 8

export function passphraseVerb(program: Command): void {
  const command = program
    .command('passphrase')
    .description("put a passphrase on this host's secret, or take it off")
    .option('--remove', 'the secret is in the clear again, as after init', false)
    .option('--keychain', 'let the keychain of this desktop session keep it instead', false)
    .addHelpText(
      'after',
      `
With one, a copy of the home folder opens nothing: it is asked for when the daemon starts, or read
from HYPERPARCEL_PASSPHRASE. Argon2id makes each try slow. A daemon that runs goes on as it is.
Whoever forgets it restores the host by its 24 words: 'hyperparcel phrase' prints them.
Without a terminal it is read from standard input: the one of before, if there is one, then the new.
Example: hyperparcel passphrase`
    )
  verb(command, async (context, self) => {
    const { terminal, options } = context
    const { remove, keychain } = self.opts<{ remove: boolean; keychain: boolean }>()
    if (remove && keychain) throw new ParcelError('USAGE', 'give --remove or --keychain, not both')
    const { lockHome, openHome, readHome } = await library()
    const dir = homeDir(options.home)
    const { key } = await readHome(dir)
    const before = key.lock === 'passphrase' ? await current() : undefined
    // Says before anything new is typed that the old one is wrong.
    await openHome(dir, before)
    const lock: LockKind = remove ? 'none' : keychain ? 'keychain' : 'passphrase'
    const passphrase = lock === 'passphrase' ? await chosen() : ''
    await lockHome(dir, { lock, passphrase, ...(before === undefined ? {} : { before }) })
    terminal.result('lock', { lock }, SAID[lock])
  })
}

export function phraseVerb(program: Command): void {
  const command = program
    .command('phrase')
    .description('print the 24 words that bring this host back on another machine')
    .addHelpText(
      'after',
      `
Write them on paper: whoever has them is this host. 'hyperparcel init --phrase' takes them, and then
finds every parcel of it at any host or vault that has it.
Example: hyperparcel phrase`
    )
  verb(command, async ({ terminal, options }) => {
    const { openHome, phraseOf, readHome } = await library()
    const dir = homeDir(options.home)
    const { key } = await readHome(dir)
    const { identity } = await openHome(dir, await passphraseFor(key.lock))
    const phrase = phraseOf(identity.seed)
    terminal.result('phrase', { phrase }, inRows(phrase.split(' ')))
    if (!terminal.isJson) terminal.note('whoever has these words is this host: keep them on paper')
  })
}

const SAID: Readonly<Record<LockKind, string>> = {
  none: "no passphrase: whoever can read this user's files can be this host",
  passphrase: 'the passphrase is asked for when the daemon starts next',
  keychain: 'the keychain of this session keeps it: nothing is asked for while that is unlocked'
}

async function passphraseFor(lock: LockKind): Promise<string | undefined> {
  return lock === 'passphrase' ? current() : undefined
}

async function current(): Promise<string> {
  const given = process.env['HYPERPARCEL_PASSPHRASE'] ?? ''
  return given === '' ? ask('Passphrase of this host', { isHidden: true }) : given
}

async function chosen(): Promise<string> {
  const passphrase = await ask('New passphrase', { isHidden: true })
  if (passphrase.length < LEAST) {
    throw new ParcelError(
      'USAGE',
      `a passphrase has at least ${LEAST} characters; better some words`
    )
  }
  if (!process.stdin.isTTY) return passphrase
  if ((await ask('The same again', { isHidden: true })) === passphrase) return passphrase
  throw new ParcelError('USAGE', 'these are two passphrases: nothing was changed')
}

function inRows(words: readonly string[]): string {
  const cell = (word: string, n: number): string =>
    `${String(n + 1).padStart(2)} ${word.padEnd(10)}`
  const cells = words.map(cell)
  return Array.from({ length: words.length / 4 }, (_, row) =>
    cells
      .slice(4 * row, 4 * row + 4)
      .join(' ')
      .trimEnd()
  ).join('\n')
}
