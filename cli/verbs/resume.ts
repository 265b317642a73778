import { resolve } from 'node:path'
import { Option, type Command } from 'commander'
import { ParcelError, POLICIES, type Policy } from '../../lib/client.js'
import { follow, verb } from '../context.js'
import { seconds } from '../options.js'
import { duration } from '../terminal.js'
import { shortId, timeText } from '../text.js'

interface Options {
  version?: string
  to?: string
  force: boolean
  policy: Policy
  prefetch: boolean
  lookaside?: string[]
  start: boolean
  timeout: number
  offline: boolean
}

export function resumeVerb(program: Command): void {
  const command = program
    .command('resume')
    .description('bring a version back: start it at once, and fetch the rest behind it')
    .argument('<name>', 'the parcel')
    .option(
      '--version <id>',
      'which one: the beginning of its id, a tag or a branch (default: the newest)'
    )
    .option('--to <dir>', 'where to (default: where it is on this host, else ./NAME)')
    .addOption(
      new Option(
        '--policy <policy>',
        'baseline: fetch and write everything first; demand: start at once; hoard: start when all is here'
      )
        .choices(POLICIES)
        .default('demand')
    )
    .option(
      '--lookaside <path...>',
      'files and folders where its contents may be found without the network; remembered'
    )
    .option('--no-prefetch', 'of disk and memory, fetch nothing that is not read')
    .option(
      '--force',
      'overwrite what was not suspended, and take a lease whose holder does not answer',
      false
    )
    .option('--no-start', 'only write the files')
    .option('--timeout <seconds>', 'how long to wait for hosts that do not answer', seconds, 60)
    .option('--offline', 'ask and wait for no other host: all of it must be here', false)
    .addHelpText('after', '\nExample: hyperparcel resume work --to ~/vm/work')
  verb(command, async (context, self) => {
    const [name = ''] = self.args
    const { version, to, force, policy, prefetch, lookaside, start, timeout, offline } =
      self.opts<Options>()
    if (!prefetch && policy !== 'demand') {
      throw new ParcelError(
        'USAGE',
        `--no-prefetch goes with --policy demand: ${policy} fetches all`
      )
    }
    const started = performance.now()
    const result = await context.client.call(
      'resume',
      {
        name,
        cwd: process.cwd(),
        force,
        policy,
        prefetch,
        lookaside: (lookaside ?? []).map((path) => resolve(path)),
        start,
        timeout: timeout * 1_000,
        offline,
        ...(version === undefined ? {} : { version }),
        ...(to === undefined ? {} : { to: resolve(to) })
      },
      follow(context)
    )
    const ms = performance.now() - started
    if (result.silent.length > 0) {
      const hosts = result.silent.map((host) => {
        const seen = result.lastSeen[host]
        return seen === undefined ? host : `${host} (for ${duration(Date.now() - seen)})`
      })
      context.terminal.note(
        `not heard from: ${hosts.join(', ')}; they may have newer versions than this one of ` +
          timeText(result.version.created)
      )
    }
    const { here, total } = result.blocks
    if (result.isRunning && here < total) {
      const holders = result.version.holders.join(', ') || 'no single host'
      const rest = prefetch ? 'comes behind it' : 'comes when it is read'
      context.terminal.note(
        `${here} of ${total} blocks are here; the rest ${rest}, from ${holders}: ` +
          'without them the machine waits'
      )
    }
    const isOfMachine = self.getOptionValueSource('policy') === 'cli' || !prefetch || !start
    if (isOfMachine && result.version.driver === 'folder') {
      context.terminal.note(
        `${name} is a folder: all of it is written, whatever --policy, --no-prefetch and --no-start say`
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
