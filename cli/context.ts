import type { Command } from 'commander'
import { DaemonClient, ParcelError, type CallOptions, type ClientOptions } from '../lib/client.js'
import { passphraseAsker } from './prompt.js'
import { Terminal } from './terminal.js'

interface GlobalOptions {
  home?: string
  bootstrap?: string
  json?: boolean
}

/** What every verb is given. */
export interface Context {
  terminal: Terminal
  client: DaemonClient
  /** --home and --bootstrap as given. */
  options: ClientOptions
  /** Aborts at the first Ctrl-C. */
  signal: AbortSignal
}

/**
 * Gives a command its action: prints its error, sets the exit status, and makes the first Ctrl-C
 * ask it to stop cleanly and the second end it at once.
 */
export function verb(
  command: Command,
  run: (context: Context, command: Command) => Promise<void>
): void {
  command.action(async function (this: Command) {
    const { home, bootstrap, json = false } = this.optsWithGlobals<GlobalOptions>()
    const terminal = new Terminal({ json })
    const abort = new AbortController()
    const onSignal = (): void => {
      if (abort.signal.aborted) process.exit(130)
      abort.abort(new ParcelError('INTERRUPTED', 'interrupted, nothing half-done is left'))
    }
    process.on('SIGINT', onSignal)
    process.on('SIGTERM', onSignal)
    try {
      const options: ClientOptions = { signal: abort.signal }
      if (home !== undefined) options.home = home
      if (bootstrap !== undefined) options.bootstrap = bootstrap
      const passphrase = passphraseAsker()
      if (passphrase !== undefined) options.passphrase = passphrase
      const client = new DaemonClient(options)
      await run({ terminal, client, options, signal: abort.signal }, this)
    } catch (error) {
      process.exitCode = terminal.error(error)
    } finally {
      process.off('SIGINT', onSignal)
      process.off('SIGTERM', onSignal)
    }
  })
}

/** All of the library: it takes a while to load, and most verbs do without. */
export const library = () => import('../lib/index.js')

/** What a call to the daemon needs to show its progress and to be interrupted. */
export function follow({ terminal, signal }: Context): CallOptions {
  return { onEvent: (event) => terminal.event(event), signal }
}
