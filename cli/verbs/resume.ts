import { resolve } from 'node:path'
import type { Command } from 'commander'
import { follow, verb } from '../context.js'
import { seconds } from '../options.js'
import { duration } from '../terminal.js'
import { shortId } from '../text.js'

interface Options {
  version?: string
  to?: string
  force: boolean
  start: boolean
  timeout: number
}

export function resumeVerb(program: Command): void {
  const command = program
    .command('resume')
    .description('bring a version back: fetch it, verify it, write it, start it')
    .argument('<name>', 'the parcel')
    .option('--version <id>', 'which one, by the beginning of its id (default: the newest)')
    .option('--to <dir>', 'where to (default: where it is on this host, else ./NAME)')
    .option('--force', 'overwrite what was not suspended', false)
    .option('--no-start', 'only write the files')
    .option('--timeout <seconds>', 'how long to wait for hosts that do not answer', seconds, 60)
    .addHelpText('after', '\nExample: hyperparcel resume work --to ~/vm/work')
  verb(command, async (context, self) => {
    const [name = ''] = self.args
    const { version, to, force, start, timeout } = self.opts<Options>()
    const started = performance.now()
    const result = await context.client.call(
      'resume',
      {
        name,
        cwd: process.cwd(),
        force,
        start,
        timeout: timeout * 1_000,
        ...(version === undefined ? {} : { version }),
        ...(to === undefined ? {} : { to: resolve(to) })
      },
      follow(context)
    )
    const ms = performance.now() - started
    if (result.silent.length > 0) {
      context.terminal.note(
        `not heard from: ${result.silent.join(', ')}; they may have newer versions`
      )
    }
    const state = result.isRunning ? 'runs' : 'is'
    const screen = result.screen === null ? '' : `, screen ${result.screen}`
    context.terminal.result(
      'resumed',
      { name, ...result, seconds: ms / 1_000 },
      `${name} ${shortId(result.version.id)} ${state} in ${result.path}${screen} (${duration(ms)})`
    )
  })
}
