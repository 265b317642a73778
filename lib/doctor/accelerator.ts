import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import type { Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { ParcelError } from '../errors.js'
import { Host } from '../host.js'
import type { VersionInfo } from '../info.js'
import { PrivateDht } from '../swarm/private-dht.js'
import { qemu } from '../vmm/qemu.js'
import { checkRom, PAGES } from './check-guest.js'

/** One point of the checklist. */
export interface Check {
  name: 'start' | 'resume' | 'count' | 'faults' | 'dirty' | 'stored' | 'model'
  isGood: boolean
  /** What was asked and what was found. */
  found: string
}

const NAME = 'check'
const MEMORY = 64
/** How long the guest may take to answer, ms. */
const PATIENCE = 10_000
/** How long a console takes to say again what was said, and how often we look, ms. */
const [REPLAY, POLL] = [200, 20]
/** A guest that touches so few pages must not be given more than this of its memory. */
const MOST_READ = MEMORY / 4
const MOST_STORED = 1_048_576

/**
 * What differs between QEMU's accelerators, tried on a guest of our own in a home of its own: that it
 * starts, that a suspend and a resume on demand lose nothing, that its page faults come as pages and
 * not as large pieces, that what it writes is seen to be written, and that its CPU model is told
 * apart from others. Takes some seconds, and leaves nothing behind.
 */
export async function* checkAccelerator(accelerator: 'kvm' | 'tcg'): AsyncGenerator<Check> {
  const dir = await mkdtemp(join(tmpdir(), 'hyperparcel-check-'))
  let dht: PrivateDht | null = null
  let host: Host | null = null
  try {
    dht = await PrivateDht.start()
    host = await Host.create({ home: join(dir, 'home'), bootstrap: dht.address, name: NAME })
    yield* checks(host, join(dir, 'machine'), accelerator)
  } finally {
    await host?.stop(NAME).catch(() => {})
    await host?.close()
    await dht?.stop()
    await rm(dir, { recursive: true, force: true })
  }
}

async function* checks(
  host: Host,
  machine: string,
  accelerator: 'kvm' | 'tcg'
): AsyncGenerator<Check> {
  await makeMachine(machine, accelerator)
  await host.add(machine, { name: NAME, vm: 'qemu' })
  let before: number
  try {
    await host.run(NAME)
    before = await ask(host, 'c', /count (\d+)/)
    await ask(host, 'w', /wrote (\d+)/)
  } catch (error) {
    yield { name: 'start', isGood: false, found: ParcelError.from(error).message }
    return
  }
  yield { name: 'start', isGood: true, found: `a guest runs under ${accelerator} and answers` }
  await host.suspend(NAME)
  await host.resume(NAME, { prefetch: false })
  const after = await ask(host, 'c', /count (\d+)/)
  yield {
    name: 'resume',
    isGood: after > before,
    found: `suspended at count ${before} or later, resumed on demand, now at ${after}`
  }
  const pages = await ask(host, 'r', /pages (\d+)/)
  yield {
    name: 'count',
    isGood: pages === PAGES,
    found: `${pages} of ${PAGES} pages of its memory are as it wrote them`
  }
  const { used } = (await host.status(NAME)).images?.workingSet ?? { used: 0 }
  const read = (used * 4_096) / 2 ** 20
  yield {
    name: 'faults',
    isGood: used >= PAGES && read <= MOST_READ,
    found:
      `${read.toFixed(1)} of ${MEMORY} MiB were read for ${PAGES} pages and what is around them` +
      (read <= MOST_READ ? '' : ': page faults read large pieces')
  }
  await ask(host, 'w', /wrote (\d+)/)
  const { version } = await host.suspend(NAME)
  yield {
    name: 'stored',
    isGood: version.stored <= MOST_STORED,
    found: `the suspend that follows stores ${(version.stored / 1_024).toFixed(0)} KiB`
  }
  await host.resume(NAME, { prefetch: false })
  const again = await ask(host, 'r', /pages (\d+)/)
  const last = await ask(host, 'c', /count (\d+)/)
  yield {
    name: 'dirty',
    isGood: again === PAGES && last > after,
    found: `what it wrote after the resume is in the next version: ${again} of ${PAGES} pages, count ${last}`
  }
  yield model(await host.log(NAME))
}

/** Whether this host can give the guest's CPU whole, and knows one that it cannot. */
async function model(versions: readonly VersionInfo[]): Promise<Check> {
  const facts = versions.at(-1)?.facts ?? {}
  const same = await qemu.mismatches(facts)
  const other = await qemu.mismatches({ ...facts, cpu: 'hyperparcel-none-v1' })
  const found =
    same.length > 0
      ? `this host cannot resume what it suspended: ${same.map(({ advice }) => advice).join('; ')}`
      : `the CPU model ${facts['cpu'] ?? ''} is given whole; one that QEMU does not have is ${other.length > 0 ? 'refused' : 'not noticed'}`
  return { name: 'model', isGood: same.length === 0 && other.length > 0, found }
}

async function makeMachine(dir: string, accelerator: 'kvm' | 'tcg'): Promise<void> {
  await mkdir(dir)
  await writeFile(join(dir, 'guest.rom'), checkRom())
  const machine = {
    vmm: 'qemu',
    machine: 'pc-i440fx-7.2',
    cpu: 'qemu64-v1',
    accelerator,
    memory: `${MEMORY}M`,
    smp: 1,
    disks: [],
    firmware: 'guest.rom',
    network: 'none',
    display: 'none'
  }
  await writeFile(join(dir, 'machine.json'), JSON.stringify(machine))
}

/** Types a letter on the guest's console; the number in its answer. Throws VMM_FAILED when none comes. */
async function ask(host: Host, letter: string, answer: RegExp): Promise<number> {
  const console: Socket = await host.attach(NAME)
  try {
    let text = ''
    const deadline = performance.now() + PATIENCE
    console.on('data', (bytes: Buffer) => (text += bytes.toString('latin1')))
    // What was said before comes first, in one piece, and ends before we speak.
    await setTimeout(REPLAY)
    const from = text.length
    console.write(letter)
    while (performance.now() < deadline && !console.destroyed) {
      const found = new RegExp(`${answer.source}\\r\\n`).exec(text.slice(from))
      if (found !== null) return Number(found[1])
      await setTimeout(POLL)
    }
    throw new ParcelError('VMM_FAILED', `the guest does not answer "${letter}"`)
  } finally {
    console.destroy()
  }
}
