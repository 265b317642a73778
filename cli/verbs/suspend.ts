import { Option, type Command } from 'commander'
import { ParcelError, SCANS, type Scan, type VersionInfo } from '../../lib/client.js'
import { follow, verb, type Context } from '../context.js'
import { seconds, span } from '../options.js'
import { bytes, duration } from '../terminal.js'
import { checkpointsText, elsewhereText, shortId } from '../text.js'

/** What can be said beside `--on`. */
const WITH_ON: ReadonlySet<string> = new Set(['on', 'grace', 'timeout'])
/** Seconds. */
const HOUR = 3_600

/** `suspend` and `checkpoint`: alike but for what the machine does afterwards. */
export function suspendVerbs(program: Command): void {
  define(
    program,
    'suspend',
    'stop a machine (or take a folder as it is) and make a durable version'
  )
    .option('--mounted', "of what was written through 'mount' or 'nbd' instead", false)
    .option('--cold', 'with --mounted: without the memory of a suspended guest', false)
    .option('--on <host>', 'the one that runs on another host; its version comes here')
    .addOption(
      new Option('--grace <time>', 'with --on: so long its user there can refuse')
        .argParser(span)
        .default(30_000, '30s')
    )
    .option('--timeout <seconds>', 'with --on: how long to wait for that host', seconds, 60)
    .option('--refuse', 'keep it running, though another host has asked to suspend it', false)
  define(program, 'checkpoint', 'make a durable version and let the machine go on')
    .option(
      '--every <time>',
      "from now on so often by itself while it runs here, such as 10m; 'off': no more",
      every
    )
    .option(
      '--idle <time>',
      "from now on by itself when it has done little for so long, such as 2m; 'off': no more",
      every
    )
}

/** Says where a version is, whenever that changes, until enough others have it. */
async function untilSafe(
  context: Context,
  name: string,
  { id }: VersionInfo,
  { on, timeout }: { on: string | null; timeout: number }
): Promise<void> {
  const { client, terminal } = context
  const [{ copies }, { name: self }] = [
    await client.call('copies', { name }),
    await client.call('id', {})
  ]
  const onChange = (version: VersionInfo): void => {
    const text = elsewhereText(version, copies, self)
    if (text !== '') terminal.result('copies', { id, holders: version.holders, copies }, text)
  }
  await client.each('safe', { name, version: id, on, timeout }, onChange, follow(context))
}

/** Says that there are several heads, if there are: who goes on sees it at once. */
async function noteHeads(
  { client, terminal }: Context,
  name: string,
  { isSilent = false } = {}
): Promise<{ heads?: number; isInConflict?: boolean }> {
  // The version is made, whatever can be said about it.
  const parcel = await client.call('status', { name }).catch(() => null)
  if (parcel === null) return {}
  const { heads, isInConflict } = parcel
  if (isInConflict && !isSilent) {
    const ids = heads.map(({ id }) => shortId(id)).join(', ')
    terminal.note(
      `${name} has ${heads.length} heads (${ids}): 'hyperparcel resolve ${name}' settles it`
    )
  }
  return { heads: heads.length, isInConflict }
}

/** Throws USAGE for what is no other member, before anything is stopped. */
async function requireOther({ client }: Context, name: string, host: string): Promise<void> {
  const [{ members }, { id: self }] = [
    await client.call('status', { name }),
    await client.call('id', {})
  ]
  const others = members.filter(({ id }) => id !== self)
  if (others.some((each) => each.name === host || each.id.startsWith(host.toLowerCase()))) return
  const names = others.map((each) => each.name).join(', ') || 'none'
  throw new ParcelError('USAGE', `no other member "${host}": there are ${names}`)
}

/** Reads how often; 0: never. */
function every(text: string): number {
  return text === 'off' ? 0 : Math.max(span(text), 1)
}

/** Has another host suspend it. */
async function suspendOn(
  context: Context,
  name: string,
  host: string,
  how: { grace: number; timeout: number }
): Promise<void> {
  const { version } = await context.client.call(
    'suspend-on',
    { name, host, ...how },
    follow(context)
  )
  const text = `${name} ${shortId(version.id)}: suspended on ${version.authorName}; here, durable`
  const heads = await noteHeads(context, name)
  context.terminal.result('version', { ...version, ...heads }, text)
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
    .option(
      '--wait [seconds]',
      "then wait until as many other hosts have it as 'copies' says (default: an hour)",
      seconds
    )
    .option('--to <host>', 'then wait until that host has all of it')
    .option('--no-compress', 'store as it is, for comparison')
    .addHelpText('after', `\nExample: hyperparcel ${name} work -m "before the upgrade"`)
  verb(command, async (context, self) => {
    const [parcel = ''] = self.args
    const {
      on,
      grace,
      timeout,
      refuse,
      every: often,
      idle
    } = self.opts<{
      every?: number
      idle?: number
      on?: string
      grace?: number
      timeout?: number
      refuse?: boolean
    }>()
    if (refuse === true) {
      const { host } = await context.client.call('suspend-refuse', { name: parcel })
      const text = `${parcel} is kept running: ${host} is told`
      context.terminal.result('refused', { name: parcel, host }, text)
      return
    }
    if (often !== undefined || idle !== undefined) {
      const wanted = {
        name: parcel,
        ...(often !== undefined && { every: often === 0 ? null : often }),
        ...(idle !== undefined && { idle: idle === 0 ? null : idle })
      }
      const set = await context.client.call('checkpoints', wanted)
      const said = checkpointsText(set) ?? 'no checkpoints by themselves'
      context.terminal.result('checkpoints', { name: parcel, ...set }, `${parcel}: ${said}`)
      return
    }
    if (on !== undefined) {
      const other = Object.entries(self.opts()).filter(
        ([name]) => self.getOptionValueSource(name) === 'cli'
      )
      const wrong = other.map(([name]) => name).find((name) => !WITH_ON.has(name))
      if (wrong !== undefined) throw new ParcelError('USAGE', `--${wrong} does not go with --on`)
      await suspendOn(context, parcel, on, { grace: grace ?? 0, timeout: 1_000 * (timeout ?? 0) })
      return
    }
    const { message, compress, scan, mounted, cold, offline, wait, to } = self.opts<{
      message: string
      compress: boolean
      scan: Scan
      mounted?: boolean
      cold?: boolean
      offline: boolean
      wait?: number | true
      to?: string
    }>()
    for (const option of ['grace', 'timeout']) {
      if (self.getOptionValueSource(option) !== 'cli') continue
      throw new ParcelError('USAGE', `--${option} goes with --on`)
    }
    if (to !== undefined) await requireOther(context, parcel, to)
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
    const { version, skipped, fetched, paused } = result
    const stood = paused === null ? '' : `, the machine stood still for ${duration(paused)}`
    const text =
      `${parcel} ${shortId(version.id)}: here, durable ` +
      `(${bytes(version.stored)} stored of ${bytes(version.bytes)}, ${duration(ms)}${stood})`
    const more = { skipped, fetched, paused, seconds: ms / 1_000 }
    const heads = await noteHeads(context, parcel, { isSilent: version.isLapsed })
    if (version.isLapsed) {
      context.terminal.note(
        `${parcel} has its lease elsewhere: this version is a second head, 'hyperparcel resolve ${parcel}' settles it`
      )
    }
    context.terminal.result('version', { ...version, ...more, ...heads }, text)
    const until = { on: to ?? null, timeout: (typeof wait === 'number' ? wait : HOUR) * 1_000 }
    if (wait !== undefined || to !== undefined) await untilSafe(context, parcel, version, until)
    if (skipped.length > 0) {
      const isOne = skipped.length === 1
      const things = isOne ? '1 thing' : `${skipped.length} things`
      const why = `${things} could not be stored: the version lacks ${isOne ? 'it' : 'them'}`
      throw new ParcelError('PARTIAL', why)
    }
  })
  return command
}
