// How hosts behind weak links keep up with each other: `npm run bench:sync`.
import { randomBytes } from 'node:crypto'
import { mkdir, open, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { z } from 'zod'
import { Sites, type Site } from '../../hosts/sites.js'
import { TestNetwork } from '../../hosts/test-network.js'
import { End } from '../across/end.js'
import { thisMachine } from '../machine.js'
import { cleanUp, scratchFolder } from '../scratch.js'

const HOST = fileURLToPath(new URL('./host-process.js', import.meta.url))
const DHT = fileURLToPath(new URL('../link/dht-process.js', import.meta.url))
const MB = 1_000_000

const { values, positionals } = parseArgs({
  options: { json: { type: 'boolean', default: false } },
  allowPositionals: true
})

const Suspended = z.object({ id: z.string(), stored: z.number() })
const Peers = z.array(z.object({ name: z.string(), received: z.number(), sent: z.number() }))

/** What was measured, and what is to be reached. */
interface Figure {
  what: string
  value: number
  unit: string
  goal: string
  isReached: boolean
}

const LAN: Site['wire'] = { mbit: 1_000, rttMs: 1 }
const LINE: Site['wire'] = { mbit: 10, rttMs: 20 }

/** Hosts of sites, each in a process of its own, with a DHT between the sites. */
class Setting {
  readonly sites: Sites
  readonly folder: string
  readonly #dir: string
  readonly #dht: string
  readonly #ends: End[]

  private constructor(dir: string, sites: Sites, dht: End, address: string) {
    this.#dir = dir
    this.#dht = address
    this.sites = sites
    this.folder = join(dir, 'folder')
    this.#ends = [dht]
  }

  static async start(sites: readonly Site[]): Promise<Setting> {
    const dir = await scratchFolder()
    const network = await Sites.create(sites)
    const dht = await End.startBehind(network.between, DHT, network.core)
    const address = z.string().parse(await dht.call('address'))
    const setting = new Setting(dir, network, dht, address)
    await mkdir(setting.folder)
    return setting
  }

  async host(site: number, n: number, name: string): Promise<End> {
    const end = await End.startBehind(
      this.sites.on(site, n),
      HOST,
      join(this.#dir, name),
      this.#dht
    )
    this.#ends.push(end)
    await end.call('create', name)
    return end
  }

  path(name: string): string {
    return join(this.#dir, name)
  }

  async close(): Promise<void> {
    for (const end of this.#ends.toReversed()) await end.stop()
    await this.sites.close()
    await rm(this.#dir, { recursive: true, force: true })
  }
}

async function suspend(end: End): Promise<z.infer<typeof Suspended>> {
  return Suspended.parse(await end.call('suspend'))
}

/** Writes bytes that nothing can be made shorter of into a file, from somewhere on. */
async function dirty(path: string, bytes: number, from = 0): Promise<void> {
  const file = await open(path, 'r+').catch(() => open(path, 'w+'))
  try {
    for (let at = 0; at < bytes; at += MB) {
      await file.write(randomBytes(Math.min(MB, bytes - at)), 0, undefined, from + at)
    }
    await file.sync()
  } finally {
    await file.close()
  }
}

async function blocksFrom(end: End): Promise<number> {
  return Peers.parse(await end.call('peers')).reduce((sum, { received }) => sum + received, 0)
}

/** A day in two places: eight hand-offs over a line of 10 Mb/s, 50 MB each. */
async function day(setting: Setting): Promise<Figure[]> {
  const [home, office] = [await setting.host(0, 0, 'home'), await setting.host(1, 0, 'office')]
  await dirty(join(setting.folder, 'disk'), 100 * MB)
  await home.call('add', setting.folder)
  const first = await suspend(home)
  await office.call('join', String(await home.call('invite')))
  await office.call('has', first.id)
  const before = setting.sites.crossed(1)
  let [found, stored, here, there] = [0, 0, home, office]
  let folder = setting.folder
  for (let n = 0; n < 8; n++) {
    await dirty(join(folder, 'disk'), 50 * MB, (n % 2) * 50 * MB)
    const version = await suspend(here)
    stored += version.stored
    // An hour goes by; what has not come in ten minutes would not come later.
    const came = await Promise.race([
      there.call('has', version.id).then(() => true),
      setTimeout(600_000, false, { ref: false })
    ])
    folder = setting.path(`at-${n}`)
    const { seconds } = z
      .object({ seconds: z.number() })
      .parse(await there.call('resume', folder, version.id))
    say(`hand-off ${n + 1}: resumed in ${seconds.toFixed(2)} s`)
    if (came) found++
    ;[here, there] = [there, here]
  }
  const wire = (setting.sites.crossed(1) - before) / stored
  return [
    figure('resumes that found everything there, of 8', found, '', found >= 7, '≥ 7'),
    figure('bytes on the wire ÷ new bytes', wire, '', wire <= 1.15, '≤ 1.15')
  ]
}

/** The same day with a machine. */
async function machine(setting: Setting): Promise<Figure[]> {
  const [home, office] = [await setting.host(0, 0, 'home'), await setting.host(1, 0, 'office')]
  let id = String(await home.call('machine', setting.path('machine'), '50', '256M'))
  await office.call('join', String(await home.call('invite')))
  await office.call('has', id)
  const before = setting.sites.crossed(1)
  const beyond: number[] = []
  let [found, stored, here, there] = [0, 0, home, office]
  for (let n = 0; n < 8; n++) {
    const came = await Promise.race([
      there.call('has', id).then(() => true),
      setTimeout(600_000, false, { ref: false })
    ])
    if (came) found++
    const alone = Number(await there.call('vmm', setting.path('plain'), id))
    const resumed = await there.call('resume', setting.path(`at-${n}`), id)
    const { seconds } = z.object({ seconds: z.number() }).parse(resumed)
    beyond.push(seconds - alone)
    say(`hand-off ${n + 1}: resumed in ${seconds.toFixed(2)} s, QEMU alone ${alone.toFixed(2)} s`)
    await there.call('fill', '50')
    const version = await suspend(there)
    stored += version.stored
    id = version.id
    ;[here, there] = [there, here]
  }
  await there.call('has', id)
  const wire = (setting.sites.crossed(1) - before) / stored
  const soon = beyond.filter((seconds) => seconds < 0.5).length
  const median = beyond.toSorted((a, b) => a - b)[4] ?? NaN
  return [
    figure('resumes that found everything there, of 8', found, '', found >= 7, '≥ 7'),
    figure('resumes under 0.5 s beyond QEMU alone, of 8', soon, '', soon >= 7, '≥ 7'),
    figure('median of what a resume takes beyond it', median, 's', median < 0.5, '< 0.5'),
    figure('bytes on the wire ÷ new bytes', wire, '', wire <= 1.15, '≤ 1.15')
  ]
}

/** Away for 200 versions, then back on a line of 10 Mb/s. */
async function away(setting: Setting): Promise<Figure[]> {
  const [desk, laptop] = [await setting.host(0, 0, 'desk'), await setting.host(1, 0, 'laptop')]
  await dirty(join(setting.folder, 'disk'), 20 * MB)
  await writeFile(join(setting.folder, 'small'), 'first')
  await desk.call('add', setting.folder)
  const first = await suspend(desk)
  await laptop.call('join', String(await desk.call('invite')))
  await laptop.call('has', first.id)
  setting.sites.cut(1, true)
  let last = first
  for (let n = 0; n < 200; n++) {
    await dirty(join(setting.folder, 'disk'), 200_000, (n % 100) * 200_000)
    await writeFile(join(setting.folder, 'small'), `version ${n}`)
    last = await suspend(desk)
  }
  await setTimeout(15_000)
  setting.sites.cut(1, false)
  const began = performance.now()
  await laptop.call('knows', last.id)
  const known = (performance.now() - began) / 1_000
  await laptop.call('restore', setting.path('small'), last.id, 'small')
  const read = (performance.now() - began) / 1_000
  await laptop.call('has', last.id)
  const head = (performance.now() - began) / 1_000
  const versions = Number(await laptop.call('count'))
  say(`the head was known after ${known.toFixed(1)} s; ${versions} versions here with it`)
  return [
    figure('until a file of the head is read, on demand', read, 's', read <= 5, '≤ 5'),
    figure('until all of the head is there', head, 's', true, '')
  ]
}

/** Three hosts behind one slow line. */
async function together(setting: Setting): Promise<Figure[]> {
  const source = await setting.host(0, 0, 'source')
  await dirty(join(setting.folder, 'disk'), 10 * MB)
  await source.call('add', setting.folder)
  const first = await suspend(source)
  const hosts: End[] = []
  for (const [n, name] of ['one', 'two', 'three'].entries()) {
    const host = await setting.host(1, n, name)
    await host.call('join', String(await source.call('invite')))
    hosts.push(host)
  }
  await Promise.all(hosts.map((host) => host.call('has', first.id)))
  // Until they have all met.
  await setTimeout(5_000)
  await dirty(join(setting.folder, 'disk'), 40 * MB)
  const before = setting.sites.crossed(1)
  const { id, stored } = await suspend(source)
  const began = performance.now()
  await Promise.all(hosts.map((host) => host.call('has', id)))
  const seconds = (performance.now() - began) / 1_000
  // Receipts, and what is on its way.
  await setTimeout(1_000)
  const share = (setting.sites.crossed(1) - before) / stored
  const least = (stored * 8) / (LINE.mbit * 1e6)
  return [
    figure('bytes over the line ÷ the new bytes', share, '', share <= 1.1, '≤ 1.1'),
    figure('time ÷ that of the line', seconds / least, '', true, '')
  ]
}

/** A line that loses a fifth of all frames, and comes and goes every 10 s. */
async function lossy(setting: Setting): Promise<Figure[]> {
  const [desk, laptop] = [await setting.host(0, 0, 'desk'), await setting.host(1, 0, 'laptop')]
  await writeFile(join(setting.folder, 'small'), 'first')
  await desk.call('add', setting.folder)
  const first = await suspend(desk)
  await laptop.call('join', String(await desk.call('invite')))
  await laptop.call('has', first.id)
  await dirty(join(setting.folder, 'disk'), 30 * MB)
  const before = await blocksFrom(laptop)
  const { id, stored } = await suspend(desk)
  let isCut = false
  const flapping = setInterval(() => {
    isCut = !isCut
    setting.sites.cut(1, isCut)
  }, 10_000)
  const began = performance.now()
  await laptop.call('has', id)
  clearInterval(flapping)
  setting.sites.cut(1, false)
  const seconds = (performance.now() - began) / 1_000
  const share = ((await blocksFrom(laptop)) - before) / stored
  return [
    figure('until all of it is there', seconds, 's', true, 'completes'),
    figure('bytes of blocks ÷ the new bytes', share, '', share <= 1.02, '≤ 1.02')
  ]
}

/** Two sources, each behind a line of its own; one is lost in the middle. */
async function sources(setting: Setting): Promise<Figure[]> {
  const [one, two] = [await setting.host(0, 0, 'one'), await setting.host(1, 0, 'two')]
  const reader = await setting.host(2, 0, 'reader')
  await writeFile(join(setting.folder, 'small'), 'first')
  await one.call('add', setting.folder)
  const first = await suspend(one)
  await two.call('join', String(await one.call('invite')))
  await reader.call('join', String(await one.call('invite')))
  await reader.call('has', first.id)
  await two.call('has', first.id)
  const seconds: number[] = []
  for (const count of [1, 2]) {
    setting.sites.cut(2, true)
    await dirty(join(setting.folder, 'disk'), 50 * MB)
    const { id } = await suspend(one)
    await two.call('has', id)
    await setTimeout(1_000)
    setting.sites.cut(1, count === 1)
    setting.sites.cut(2, false)
    await reader.call('knows', id)
    const began = performance.now()
    await reader.call('has', id)
    seconds.push((performance.now() - began) / 1_000)
    setting.sites.cut(1, false)
  }
  const [alone = 0, both = 1] = seconds
  say(`from one ${alone.toFixed(1)} s, from two ${both.toFixed(1)} s`)
  return [figure('two sources ÷ one', alone / both, '', alone / both >= 1.8, '≥ 1.8')]
}

/** A source, and another one beside it that sends a kilobyte a second. */
async function slow(setting: Setting): Promise<Figure[]> {
  const [one, two] = [await setting.host(0, 0, 'one'), await setting.host(1, 0, 'two')]
  const reader = await setting.host(2, 0, 'reader')
  await writeFile(join(setting.folder, 'small'), 'first')
  await one.call('add', setting.folder)
  await two.call('join', String(await one.call('invite')))
  await reader.call('join', String(await one.call('invite')))
  const seconds: number[] = []
  for (const isBeside of [false, true]) {
    await reader.call('unhoard')
    await dirty(join(setting.folder, 'disk'), 50 * MB)
    const { id } = await suspend(one)
    await two.call('has', id)
    await reader.call('knows', id)
    if (isBeside) setting.sites.slowDown(1)
    else setting.sites.cut(1, true)
    await setTimeout(1_000)
    const began = performance.now()
    await reader.call('hoard')
    await reader.call('has', id)
    seconds.push((performance.now() - began) / 1_000)
    setting.sites.cut(1, false)
  }
  const [alone = 0, beside = 1] = seconds
  say(`from one ${alone.toFixed(1)} s, with a slow one beside it ${beside.toFixed(1)} s`)
  const share = alone / beside
  return [figure('one source ÷ one with a slow one beside it', share, '', share >= 0.95, '≥ 0.95')]
}

const Waits = z.array(z.object({ at: z.number(), took: z.number() }))

/** A machine's memory is read page by page from two sources, and one of them is lost. */
async function lost(setting: Setting): Promise<Figure[]> {
  const [one, two] = [await setting.host(0, 0, 'one'), await setting.host(1, 0, 'two')]
  const reader = await setting.host(2, 0, 'reader')
  const id = String(await one.call('machine', setting.path('machine'), '24'))
  await two.call('join', String(await one.call('invite')))
  await two.call('has', id)
  await reader.call('join', String(await one.call('invite')))
  await reader.call('unhoard')
  await reader.call('knows', id)
  await setTimeout(2_000)
  const cutAt = 5_000
  const reading = reader.call('touch', id, '15000')
  await setTimeout(cutAt)
  setting.sites.cut(1, true)
  const waits = Waits.parse(await reading)
  setting.sites.cut(1, false)
  const longest = (all: z.output<typeof Waits>): number =>
    Math.max(...all.map(({ took }) => took)) / 1_000
  // The page that was being read counts too.
  const after = longest(waits.filter(({ at, took }) => at + took >= cutAt))
  say(
    `${waits.length} pages; the longest wait before that ${longest(waits.filter(({ at, took }) => at + took < cutAt)).toFixed(2)} s`
  )
  return [figure('longest wait for a page when a source is lost', after, 's', after < 1, '< 1')]
}

/** Two hosts with nothing to do. */
async function idle(setting: Setting): Promise<Figure[]> {
  const ends = [await setting.host(0, 0, 'desk'), await setting.host(1, 0, 'laptop')]
  const [desk, laptop] = ends
  if (desk === undefined || laptop === undefined) return []
  await writeFile(join(setting.folder, 'small'), 'first')
  await desk.call('add', setting.folder)
  const first = await suspend(desk)
  await laptop.call('join', String(await desk.call('invite')))
  await laptop.call('has', first.id)
  await setTimeout(20_000)
  const cpu = async (): Promise<number> => {
    const each = await Promise.all(ends.map((end) => end.call('cpu')))
    return each.reduce<number>((sum, seconds) => sum + Number(seconds), 0)
  }
  const [bytes, used, seconds] = [setting.sites.crossed(1), await cpu(), 60]
  await setTimeout(seconds * 1_000)
  const rate = (setting.sites.crossed(1) - bytes) / seconds / 1_000
  const core = (100 * ((await cpu()) - used)) / seconds / ends.length
  return [
    figure('traffic', rate, 'KB/s', rate < 1, '< 1'),
    figure('CPU of each', core, '% of a core', core < 0.5, '< 0.5')
  ]
}

const PARTS: Record<string, { sites: Site[]; run: (setting: Setting) => Promise<Figure[]> }> = {
  day: { sites: [site(1, LAN), site(1, LINE)], run: day },
  machine: { sites: [site(1, LAN), site(1, LINE)], run: machine },
  away: { sites: [site(1, LAN), site(1, LINE)], run: away },
  together: { sites: [site(1, LAN), site(3, LINE)], run: together },
  lossy: { sites: [site(1, LAN), site(1, { ...LINE, loss: 0.2 })], run: lossy },
  sources: { sites: [site(1, LINE), site(1, LINE), site(1, LAN)], run: sources },
  slow: { sites: [site(1, LINE), site(1, { ...LINE, slow: 8_192 }), site(1, LAN)], run: slow },
  lost: { sites: [site(1, LINE), site(1, LINE), site(1, LAN)], run: lost },
  idle: { sites: [site(1, LAN), site(1, LINE)], run: idle }
}

function site(hosts: number, wire: Site['wire']): Site {
  return { hosts, wire }
}

function figure(
  what: string,
  value: number,
  unit: string,
  isReached: boolean,
  goal: string
): Figure {
  return { what, value, unit, goal, isReached }
}

function say(text: string): void {
  process.stderr.write(`${text}\n`)
}

async function main(): Promise<void> {
  const missing = TestNetwork.missing()
  if (missing !== null) throw new Error(`no links can be made here: ${missing}`)
  const names = positionals.length === 0 ? Object.keys(PARTS) : positionals
  const results: { part: string; figures: Figure[] }[] = []
  for (const part of names) {
    const found = PARTS[part]
    if (found === undefined) throw new Error(`no part ${part}: ${Object.keys(PARTS).join(', ')}`)
    say(`${part} …`)
    const setting = await Setting.start(found.sites)
    try {
      results.push({ part, figures: await found.run(setting) })
    } finally {
      await setting.close()
    }
  }
  if (values.json) {
    console.log(JSON.stringify({ machine: thisMachine(), results }))
    return
  }
  console.log('| part | | measured | goal | |\n| --- | --- | ---: | --- | --- |')
  for (const { part, figures } of results) {
    for (const { what, value, unit, goal, isReached } of figures) {
      const amount = `${value.toPrecision(3)} ${unit}`.trim()
      const mark = goal === '' ? '' : isReached ? 'reached' : 'not reached'
      console.log(`| ${part} | ${what} | ${amount} | ${goal} | ${mark} |`)
    }
  }
}

try {
  await main()
} finally {
  cleanUp()
}
