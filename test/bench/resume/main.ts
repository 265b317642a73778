// How soon a machine runs on another host, over links of several shapes: `npm run bench:resume`.
import { cp, mkdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { z } from 'zod'
import { buildGuest } from '../../../examples/demo/linux-guest.js'
import { PrivateDht } from '../../../lib/index.js'
import { TestNetwork, type Shape } from '../../hosts/test-network.js'
import { End } from '../across/end.js'
import { thisMachine } from '../machine.js'
import { filesOf } from '../real-files.js'
import { cleanUp, scratchFolder } from '../scratch.js'

const HOST = fileURLToPath(new URL('./host-process.js', import.meta.url))
const DHT = fileURLToPath(new URL('../link/dht-process.js', import.meta.url))
const POLICIES = ['baseline', 'demand', 'traced', 'hoarded'] as const
type Policy = (typeof POLICIES)[number]

/** Published for one machine: copying everything, sent ahead, on demand; seconds (deviation). */
const PUBLISHED = { baseline: '2060 (29)', hoarded: '2.5 (0.15)', traced: '27 (1.9)' } as const
/** Until a guest that nobody uses has settled, ms. */
const SETTLED = 15_000
/** How often it is resumed and used before it is measured. */
const DAYS = 2
/** So much of a baseline is measured where all of it would take too long, s. */
const SAMPLE = 60

const { values } = parseArgs({
  options: {
    runs: { type: 'string', default: '3' },
    shapes: { type: 'string', default: '100x5,100x50,10x5,10x50,1x5,1x50' },
    policies: { type: 'string', default: POLICIES.join() },
    memory: { type: 'string', default: '1G' },
    disk: { type: 'string', default: '4096' },
    data: { type: 'string', default: '1200' },
    json: { type: 'boolean', default: false },
    'seed-table': { type: 'boolean', default: false }
  }
})

const Suspended = z.object({ seconds: z.number(), stored: z.number(), id: z.string() })
const Resumed = z.object({ seconds: z.number(), here: z.number(), total: z.number() })
const Sizes = z.object({ blocks: z.object({ here: z.number(), total: z.number() }) })

interface Measured {
  /** Until the guest answered, s. */
  answer: number
  /** Bytes over the link by then. */
  bytes: number
  /** The scripted session, s. */
  session: number
  /** The suspend that follows: s and bytes. */
  suspend: number
  stored: number
  isComputed: boolean
}

async function main(): Promise<void> {
  const missing = TestNetwork.missing()
  if (missing !== null) throw new Error(`no links can be made here: ${missing}`)
  const shapes = values.shapes.split(',').map((text): Shape => {
    const [mbit = 0, rttMs = 0] = text.split('x').map(Number)
    return { mbit, rttMs }
  })
  const policies = POLICIES.filter((policy) => values.policies.split(',').includes(policy))
  const dir = await scratchFolder()
  const prepared = await prepare(dir, shapes.length * policies.length * Number(values.runs))
  const rows: Record<string, unknown>[] = []
  for (const shape of shapes) {
    for (const policy of policies) {
      const runs: Measured[] = []
      for (let run = 0; run < Number(values.runs); run++) {
        say(`${shape.mbit} Mb/s, ${shape.rttMs} ms, ${policy}, run ${run + 1}`)
        runs.push(await measure(dir, prepared, shape, policy))
      }
      const row = { ...shape, policy, ...summary(runs, prepared.local.session) }
      rows.push(row)
      if (values.json) console.log(JSON.stringify(row))
    }
  }
  if (!values.json) print(rows, prepared, shapes)
  cleanUp()
  process.exit(0)
}

interface Prepared {
  /** Versions: as it was booted, and after a session whose use was written down. */
  first: string
  traced: string
  /** Bytes in the log, compressed. */
  stored: number
  /** On one host, all of it there: until it answers and for the session, s. */
  local: { answer: number; session: number }
  script: string[]
  guests: string[]
}

/** A suspended machine on host A, and other hosts that were let in before it had a version. */
async function prepare(dir: string, hosts: number): Promise<Prepared> {
  say('building the guest')
  const files = join(dir, 'files')
  const script = await copyFiles(files, Number(values.data) * 1e6)
  const machine = join(dir, 'machine')
  await buildGuest(machine, {
    memory: values.memory,
    diskMiB: Number(values.disk),
    marker: 'bench',
    dataMiB: 16,
    files,
    bootDisk: true
  })
  await rm(files, { recursive: true })
  const dht = await PrivateDht.start()
  const a = await End.start(HOST, join(dir, 'a'), dht.address)
  await a.call('create', 'a')
  await a.call('add', machine)
  const guests: string[] = []
  for (let n = 0; n < hosts; n++) {
    say(`letting in host ${n + 1} of ${hosts}`)
    const home = join(dir, `b${n}`)
    const b = await End.start(HOST, home, dht.address)
    await b.call('create', `b${n}`)
    await b.call('join', String(await a.call('invite')))
    await b.stop()
    guests.push(home)
  }
  say('booting it, and using it')
  await a.call('run')
  await a.call('boot')
  await a.call('session', `fill ${fillMiB()}`)
  const first = Suspended.parse(await a.call('suspend'))
  // What it reads for the first time in its life, it reads once: the second trace is that of every day.
  let [traced, stored] = [first, first.stored]
  for (let day = 0; day < DAYS; day++) {
    await a.call('resume', 'demand', machine)
    await a.call('session', ...script)
    // What a guest does by itself, it does in these seconds too.
    await setTimeout(SETTLED)
    traced = Suspended.parse(await a.call('suspend'))
    stored += traced.stored
  }
  // Once more, for the figures of a host that has everything.
  await setTimeout(6_000)
  const started = performance.now()
  await a.call('resume', 'hoard', machine)
  await a.call('session')
  const answer = (performance.now() - started) / 1_000
  const session = z.number().parse(await a.call('session', ...script))
  await a.call('stop')
  await a.stop()
  await dht.stop()
  return { first: first.id, traced: traced.id, stored, local: { answer, session }, script, guests }
}

async function measure(
  dir: string,
  { first, traced, script, guests }: Prepared,
  shape: Shape,
  policy: Policy
): Promise<Measured> {
  const home = guests.shift()
  if (home === undefined) throw new Error('a host a run')
  const to = join(dir, 'there')
  if (policy === 'hoarded') await hoard(dir, home, traced)
  const network = await TestNetwork.create(shape)
  const ends: End[] = []
  const start = async (side: 'a' | 'b', program: string, ...args: string[]): Promise<End> => {
    const end = await End.startBehind(network.on(side), program, ...args)
    ends.push(end)
    return end
  }
  try {
    const dht = await start('a', DHT, network.address('a'))
    const address = z.string().parse(await dht.call('address'))
    const a = await start('a', HOST, join(dir, 'a'), address)
    await a.call('open')
    const b = await start('b', HOST, home, address)
    await b.call('open')
    await b.call('knows', traced)
    // As a daemon that has been there for a while: whoever can be found has been found.
    await setTimeout(6_000)
    const before = Number(await b.call('received'))
    const started = performance.now()
    const version = policy === 'demand' ? first : traced
    const resumed = b.call('resume', policy === 'baseline' ? 'baseline' : 'demand', to, version)
    resumed.catch(() => {})
    if (policy === 'baseline' && shape.mbit <= 1) return await computed(b, before, started)
    Resumed.parse(await resumed)
    await b.call('session')
    const answer = (performance.now() - started) / 1_000
    const bytes = Number(await b.call('received')) - before
    const session = z.number().parse(await b.call('session', ...script))
    const suspended = Suspended.parse(await b.call('suspend'))
    const { seconds: suspend, stored } = suspended
    return { answer, bytes, session, suspend, stored, isComputed: false }
  } finally {
    for (const end of ends.toReversed()) await end.stop()
    await network.close()
    await rm(to, { recursive: true, force: true })
    await rm(home, { recursive: true, force: true })
  }
}

/** Has a host fetch everything over a link without limits. */
async function hoard(dir: string, home: string, version: string): Promise<void> {
  const dht = await PrivateDht.start()
  const a = await End.start(HOST, join(dir, 'a'), dht.address)
  const b = await End.start(HOST, home, dht.address)
  await a.call('open')
  await b.call('open')
  await setTimeout(1_000)
  await b.call('hoard', version)
  await b.stop()
  await a.stop()
  await dht.stop()
}

/** From what came in the first minute, how long all of it would take. */
async function computed(b: End, before: number, started: number): Promise<Measured> {
  await setTimeout(SAMPLE * 1_000)
  const bytes = Number(await b.call('received')) - before
  const { blocks } = Sizes.parse(await b.call('status'))
  const share = blocks.here / blocks.total
  const answer = (performance.now() - started) / 1_000 / Math.max(share, 1e-6)
  const nothing = { session: NaN, suspend: NaN, stored: NaN }
  return { answer, bytes: bytes / Math.max(share, 1e-6), ...nothing, isComputed: true }
}

/**
 * Real files of this machine, up to so many bytes; returns a session that reads some of them, packs
 * them, and writes.
 */
async function copyFiles(to: string, bytes: number): Promise<string[]> {
  await mkdir(to)
  let left = bytes
  let n = 0
  const read: string[] = []
  for await (const { path, size } of filesOf('/usr', 64 * 2 ** 20)) {
    if (size < 4_096) continue
    const name = `f${n++}`
    await cp(path, join(to, name))
    left -= size
    if (size < 500_000 && n % 40 === 0 && read.length < 40)
      read.push(`read files/${name}`, `zip files/${name}`)
    if (left <= 0) break
  }
  return ['write one', 'notes', ...read, 'marker two', 'write three']
}

/** Random bytes in the guest's memory, so that it does not compress to nothing. */
function fillMiB(): number {
  return values.memory === '1G' ? 200 : 20
}

function summary(runs: readonly Measured[], local: number): Record<string, unknown> {
  const of = (pick: (one: Measured) => number): { mean: number; deviation: number } => {
    const all = runs.map(pick)
    const mean = all.reduce((sum, each) => sum + each, 0) / all.length
    const square = all.reduce((sum, each) => sum + (each - mean) ** 2, 0) / all.length
    return { mean, deviation: Math.sqrt(square) }
  }
  return {
    answer: of(({ answer }) => answer),
    bytes: of(({ bytes }) => bytes),
    slowdown: of(({ session }) => session / local),
    suspend: of(({ suspend }) => suspend),
    stored: of(({ stored }) => stored),
    isComputed: runs.some(({ isComputed }) => isComputed)
  }
}

const Figure = z
  .object({ mean: z.number(), deviation: z.number() })
  .catch({ mean: NaN, deviation: NaN })
const Row = z.object({
  mbit: z.number(),
  rttMs: z.number(),
  policy: z.string(),
  answer: Figure,
  bytes: Figure,
  slowdown: Figure,
  suspend: Figure,
  stored: Figure,
  isComputed: z.boolean()
})

function print(
  rows: readonly unknown[],
  { stored, local }: Prepared,
  shapes: readonly Shape[]
): void {
  const parsed = rows.map((row) => Row.parse(row))
  const { cpu, cores, node } = thisMachine()
  console.log(
    `${cpu}, ${cores} cores, Node ${node}; guest ${values.memory}, disk ${values.disk} MiB`
  )
  console.log(
    `state ${(stored / 1e6).toFixed(0)} MB compressed; all on one host: answers after ${local.answer.toFixed(2)} s, session ${local.session.toFixed(2)} s\n`
  )
  if (values['seed-table']) {
    for (const { mbit, rttMs } of shapes) {
      console.log(
        `| resume, s (deviation) | published | ${mbit} Mb/s, ${rttMs} ms, ${(stored / 1e6).toFixed(0)} MB |`
      )
      console.log('|---|---|---|')
      for (const [policy, published] of Object.entries(PUBLISHED)) {
        const row = parsed.find(
          (each) => each.mbit === mbit && each.rttMs === rttMs && each.policy === policy
        )
        const name = { baseline: 'baseline', hoarded: 'proactive', traced: 'demand' }[policy]
        console.log(`| ${name} | ${published} | ${row === undefined ? '' : figure(row.answer)} |`)
      }
    }
    return
  }
  console.log(
    '| link | policy | answers after, s | MB by then | session ÷ local | suspend, s | stored, MB |'
  )
  console.log('|---|---|---|---|---|---|---|')
  for (const row of parsed) {
    const { mbit, rttMs, policy, answer, bytes, slowdown, suspend, stored } = row
    const mark = row.isComputed ? ' (computed from 60 s)' : ''
    console.log(
      `| ${mbit} Mb/s, ${rttMs} ms | ${policy}${mark} | ${figure(answer)} | ${figure(bytes, 1e6)} | ` +
        `${figure(slowdown)} | ${figure(suspend)} | ${figure(stored, 1e6)} |`
    )
  }
}

function figure({ mean, deviation }: { mean: number; deviation: number }, unit = 1): string {
  if (Number.isNaN(mean)) return '—'
  const digits = mean / unit < 10 ? 2 : mean / unit < 100 ? 1 : 0
  return `${(mean / unit).toFixed(digits)} (${(deviation / unit).toFixed(digits)})`
}

function say(text: string): void {
  console.error(text)
}

await main()
