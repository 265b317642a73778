import type { Command } from 'commander'
import { homeDir } from '../../lib/client.js'
import { library, verb } from '../context.js'
import { duration } from '../terminal.js'

export function daemonVerb(program: Command): void {
  const command = program
    .command('daemon')
    .description(
      'run the process that owns the store, in the foreground; verbs start it by themselves'
    )
    .addHelpText(
      'after',
      '\nExamples: hyperparcel daemon\n          hyperparcel daemon status\n          hyperparcel daemon stop'
    )
  verb(command, async ({ terminal, options, signal }) => {
    const { home, bootstrap, passphrase } = options
    const { readHome, runDaemon } = await library()
    const { key } = await readHome(homeDir(home))
    const isAsked = key.lock === 'passphrase' && !process.env['HYPERPARCEL_PASSPHRASE']
    await runDaemon({
      ...(isAsked && passphrase !== undefined ? { passphrase: await passphrase() } : {}),
      ...(home === undefined ? {} : { home }),
      ...(bootstrap === undefined ? {} : { bootstrap }),
      idle: null,
      signal,
      onReady: (home) => {
        terminal.result('daemon', { home, pid: process.pid }, `serving ${home}; Ctrl-C ends it`)
      }
    })
    process.exit(0)
  })

  const status = command.command('status').description('say whether it runs')
  verb(status, async ({ terminal, client }) => {
    const daemon = await client.status()
    if (daemon === null) {
      terminal.result('daemon', { isRunning: false }, 'not running; the next verb starts it')
      return
    }
    const { pid, started, idleLimit, bootstrap } = daemon
    const end =
      idleLimit === null ? 'until it is stopped' : `until idle for ${duration(idleLimit * 1_000)}`
    const dht = bootstrap === '' ? 'the public DHT' : `the DHT at ${bootstrap}`
    terminal.result(
      'daemon',
      { isRunning: true, ...daemon },
      `process ${pid}, for ${duration(Date.now() - started)}, ${end}, on ${dht}`
    )
  })

  const stop = command.command('stop').description('end it; running machines go on')
  verb(stop, async ({ terminal, client }) => {
    const wasRunning = await client.stop()
    terminal.result(
      'daemon',
      { isRunning: false, wasRunning },
      wasRunning ? 'stopped' : 'not running'
    )
  })
}
