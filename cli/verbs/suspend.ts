import { Option, type Command } from 'commander'
import { ParcelError, SCANS, type Scan } from '../../lib/index.js'
import { follow, verb } from '../context.js'
import { bytes, duration } from '../terminal.js'
import { shortId } from '../text.js'

/** `suspend` and `checkpoint`: alike but for what the machine does afterwards. */
export function suspendVerbs(program: Command): void {
  define(
    program,
    'suspend',
    'stop a machine (or take a folder as it is) and make a durable version'
  )
    .option('--mounted', "of what was written through 'mount' or 'nbd' instead", false)
    .option('--cold', 'with --mounted: without the memory of a suspended guest', false)
  define(program, 'checkpoint', 'make a durable version and let the machine go on')
}

function define(program: Command, name: 'suspend' | 'checkpoint', description: string): Command {
  const command = program
    .command(name)
    .description(description)
    .argument('<name>', 'the parcel')
    .option('-m, --message <text>', 'a word about this version', '')
    .addOption(
      new Option('--scan <how>', 'mtime: skip files that look unchanged; full: read all')
        .choices(SCANS)
        .default('mtime')
    )
    .option('--offline', 'wait for no other host', false)
    .option('--no-compress', 'store as it is, for comparison')
    .addHelpText('after', `\nExample: hyperparcel ${name} work -m "before the upgrade"`)
  verb(command, async (context, self) => {
    const [parcel = ''] = self.args
    const { message, compress, scan, mounted, cold, offline } = self.opts<{
      message: string
      compress: boolean
      scan: Scan
      mounted?: boolean
      cold?: boolean
      offline: boolean
    }>()
    if (cold === true && mounted !== true)
      throw new ParcelError('USAGE', '--cold goes with --mounted')
    const started = performance.now()
    const what = { name: parcel, message, compress, offline }
    const result =
      mounted === true
        ? await context.client.call(
            'suspend-mounted',
            { ...what, cold: cold === true },
            follow(context)
          )
        : await context.client.call(name, { ...what, scan }, follow(context))
    const ms = performance.now() - started
    const { version, skipped, fetched } = result
    const text =
      `${parcel} ${shortId(version.id)}: here, durable ` +
      `(${bytes(version.stored)} stored of ${bytes(version.bytes)}, ${duration(ms)})`
    context.terminal.result('version', { ...version, skipped, fetched, seconds: ms / 1_000 }, text)
    if (skipped.length > 0) {
      const things = skipped.length === 1 ? '1 thing' : `${skipped.length} things`
      throw new ParcelError('PARTIAL', `${things} could not be stored: the version lacks them`)
    }
  })
  return command
}
