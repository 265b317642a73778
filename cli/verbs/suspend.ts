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
  define(program, 'checkpoint', 'make a durable version and let the machine go on')
}

function define(program: Command, name: 'suspend' | 'checkpoint', description: string): void {
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
    .option('--no-compress', 'store as it is, for comparison')
    .addHelpText('after', `\nExample: hyperparcel ${name} work -m "before the upgrade"`)
  verb(command, async (context, self) => {
    const [parcel = ''] = self.args
    const { message, compress, scan } = self.opts<{
      message: string
      compress: boolean
      scan: Scan
    }>()
    const started = performance.now()
    const result = await context.client.call(
      name,
      { name: parcel, message, compress, scan },
      follow(context)
    )
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
}
