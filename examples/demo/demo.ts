// The whole idea on one machine: a private DHT and two hosts, each a process of its own. A machine
// counts on the first, is suspended, crosses over, and goes on counting on the second.
//   npm run demo                  a v86 machine; needs npm alone
//   npm run demo -- --vm qemu     a Linux guest; needs qemu-system-x86_64
import { mkdir, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { SingleBar } from 'cli-progress'
import prettyBytes from 'pretty-bytes'
import { createHome, DaemonClient, MachineProcess, PrivateDht } from '../../lib/index.js'
import type { TaskEvent } from '../../lib/index.js'
import { buildGuest, missingForQemu } from './linux-guest.js'

const LAPTOP = 'laptop'
const DESK = 'desk'
/** What both guests print: 'count 297' or 'tick 12 uptime 3.04'. */
const COUNT = /(?:count|tick) (\d+)[^\n]*\n/g

const { values } = parseArgs({ options: { vm: { type: 'string', default: 'v86' } } })
const vm = values.vm
const missing = vm === 'qemu' ? missingForQemu() : null
if ((vm !== 'v86' && vm !== 'qemu') || missing !== null) {
  console.error(missing ?? `--vm is v86 or qemu, not "${vm}"`)
  process.exit(2)
}

// A daemon that a verb started stays for ten idle minutes; after a crash of the demo it should not.
process.env['HYPERPARCEL_IDLE'] = '60'
const scratch = await mkdtemp(join(tmpdir(), 'hyperparcel-demo-'))
const dht = await PrivateDht.start()
const hosts = new Map<string, DaemonClient>()

try {
  say('network', `a private DHT at ${dht.address}`)
  for (const name of [LAPTOP, DESK]) {
    const home = join(scratch, 'homes', name)
    await createHome(home, name)
    const client = new DaemonClient({ home, bootstrap: dht.address })
    hosts.set(name, client)
    await client.call('id', {})
    say(name, `a host, process ${(await client.status())?.pid ?? 0}`)
  }

  const folder = join(scratch, LAPTOP, 'machine')
  await mkdir(folder, { recursive: true })
  if (vm === 'qemu') await buildGuest(folder, { memory: '256M', diskMiB: 64, marker: 'demo' })
  await host(LAPTOP).call('add', { path: folder, name: 'machine', vm })
  await host(LAPTOP).call('run', { name: 'machine', cold: false })
  say(LAPTOP, `the machine runs (${vm}); its console says:`)
  const before = await watch(LAPTOP, 5)

  const suspended = await timed(LAPTOP, 'suspended', (onEvent) =>
    host(LAPTOP).call('suspend', { name: 'machine', message: 'demo', compress: true }, { onEvent })
  )
  const { version } = suspended
  say(
    LAPTOP,
    `version ${version.id.slice(0, 12)}: here, durable; ` +
      `${prettyBytes(version.bytes)} of machine, ${prettyBytes(version.stored)} in the log`
  )

  const { invite } = await host(LAPTOP).call('invite', { name: 'machine', ttl: 600_000 })
  await timed(DESK, 'joined', (onEvent) =>
    host(DESK).call('join', { invite, timeout: 60_000 }, { onEvent })
  )
  await timed(DESK, 'fetched, verified, running', (onEvent) =>
    host(DESK).call(
      'resume',
      {
        name: 'machine',
        to: join(scratch, DESK, 'machine'),
        cwd: scratch,
        force: false,
        start: true,
        timeout: 60_000
      },
      { onEvent }
    )
  )
  say(DESK, 'its console says:')
  const after = await watch(DESK, 5)
  await host(DESK).call('stop', { name: 'machine' })

  const [last = 0] = before.slice(-1)
  const [first = 0] = after
  if (first <= last || first > last + 1_000) {
    throw new Error(`the counter was at ${last} and came back at ${first}`)
  }
  say('result', `the counter was at ${last} when last seen here, and goes on at ${first} there`)
} finally {
  for (const client of hosts.values()) await client.stop()
  await dht.stop()
  await rm(scratch, { recursive: true, force: true })
}
process.exit(0)

function host(name: string): DaemonClient {
  const client = hosts.get(name)
  if (client === undefined) throw new Error(`no host ${name}`)
  return client
}

/** Shows the console of a host's machine until it has counted `lines` times; returns the counts. */
async function watch(name: string, lines: number): Promise<number[]> {
  const { runDir } = await host(name).call('attach', { name: 'machine' })
  const console = await new MachineProcess(runDir).console()
  let text = ''
  let shown = 0
  for await (const bytes of console) {
    text += Buffer.from(bytes).toString('latin1')
    const found = [...text.matchAll(COUNT)]
    for (const [line] of found.slice(shown)) say(name, `  ${line.trim()}`)
    shown = found.length
    if (shown >= lines) return found.map(([, count]) => Number(count))
  }
  throw new Error(`the machine on ${name} ended after: ${text}`)
}

/** Runs one verb, with a bar on a terminal, and says how long it took. */
async function timed<T>(
  name: string,
  what: string,
  run: (onEvent: (event: TaskEvent) => void) => Promise<T>
): Promise<T> {
  const started = performance.now()
  const bar = new SingleBar({
    format: `${name.padEnd(8)} {step} {bar} {percentage}%`,
    noTTYOutput: false
  })
  let isDrawn = false
  const result = await run((event) => {
    if (event.type === 'note' || !process.stderr.isTTY) return
    if (!isDrawn) bar.start(Math.max(event.total, 1), 0, { step: event.step })
    isDrawn = true
    bar.setTotal(Math.max(event.total, 1))
    bar.update(event.done, { step: event.step })
  }).finally(() => {
    if (isDrawn) bar.stop()
  })
  say(name, `${what} in ${((performance.now() - started) / 1_000).toFixed(2)} s`)
  return result
}

function say(who: string, text: string): void {
  console.log(`${who.padEnd(8)} ${text}`)
}
