// A host of the sync bench, on its site: host-process.js HOME BOOTSTRAP
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { buildGuest } from '../../../examples/demo/linux-guest.js'
import { ItemClient } from '../../../lib/export/item-client.js'
import { contents } from '../../../lib/image/contents.js'
import { Image } from '../../../lib/image/image.js'
import { Overlay } from '../../../lib/image/overlay.js'
import { TreeLookup } from '../../../lib/image/tree-lookup.js'
import { Host } from '../../../lib/index.js'
import { qemu } from '../../../lib/vmm/qemu.js'
import { serve } from '../across/end.js'

const NAME = 'work'
const PAGE = 4_096
const [home = '', bootstrap = ''] = process.argv.slice(2)
let opened: Host | null = null

function host(): Host {
  if (opened === null) throw new Error('no host is open')
  return opened
}

/** Waits until a version is known, or all of it is here; returns seconds. */
async function wait(
  id: string,
  isEnough: (version: { isHere: boolean }) => boolean
): Promise<number> {
  const began = performance.now()
  for (;;) {
    const version = (await host().log(NAME)).find((each) => each.id === id)
    if (version !== undefined && isEnough(version)) return (performance.now() - began) / 1_000
    await setTimeout(20)
  }
}

/** Types something on the guest's console, until it has answered. */
async function ask(command: string, answer: RegExp): Promise<void> {
  const console = await host().attach(NAME)
  let text = ''
  console.on('data', (part: Buffer) => (text += part.toString('latin1')))
  console.write(`${command}\n`)
  while (!answer.test(text)) await once(console, 'data')
  console.destroy()
}

async function memoryOf(client: ItemClient): Promise<Image> {
  for await (const { entry, place } of contents(client, client.version, client.places)) {
    if (entry.type !== 'file' || entry.role !== 'memory') continue
    const tree = new TreeLookup(client, { ...entry, place })
    return new Image(tree, client, Overlay.fresh(join(home, 'none'), entry.size))
  }
  throw new Error('it has no memory')
}

serve(
  {
    async create(name = '') {
      opened = await Host.create({ home, bootstrap, name })
    },
    async open() {
      opened = await Host.open({ home, bootstrap })
    },
    async close() {
      await opened?.close()
      opened = null
    },
    add: async (path = '') => host().add(path, { name: NAME, vm: 'folder' }),
    async suspend() {
      const { version } = await host().suspend(NAME)
      return { id: version.id, stored: version.stored }
    },
    invite: async () => (await host().invite(NAME)).invite,
    join: async (invite = '') => host().join(invite, { name: NAME }),
    knows: (id = '') => wait(id, () => true),
    has: (id = '') => wait(id, ({ isHere }) => isHere),
    /** How many versions are here, all of each. */
    count: async () => (await host().log(NAME)).filter(({ isHere }) => isHere).length,
    async resume(to = '', version = '') {
      const began = performance.now()
      const { blocks } = await host().resume(NAME, { to, version, timeout: 600_000 })
      return { seconds: (performance.now() - began) / 1_000, ...blocks }
    },
    /** Reads a file of a version that is not here, as a machine would. */
    async restore(to = '', version = '', path = '') {
      const began = performance.now()
      await host().versions.restore(NAME, { to, version, paths: [path] })
      return (performance.now() - began) / 1_000
    },
    async peers() {
      const { peers } = await host().status(NAME)
      return peers.map(({ name, received, sent }) => ({ name, received, sent }))
    },
    /** A Linux guest that has filled some of its memory; returns its version. */
    async machine(path = '', mib = '', memory = '128M') {
      await buildGuest(path, { memory, diskMiB: 32, marker: 'bench' })
      await host().add(path, { name: NAME, vm: 'qemu' })
      await host().run(NAME)
      await ask('uptime', /^tick/m)
      await ask(`fill ${mib}`, new RegExp(`^filled ${mib}`, 'm'))
      return (await host().suspend(NAME)).version.id
    },
    /** Has the guest that runs here fill some of its memory anew. */
    async fill(mib = '') {
      const token = `now${Math.random().toString(36).slice(2)}`
      await ask(
        `marker ${token}\nfill ${mib}`,
        new RegExp(`^marker ${token}[^]*^filled ${mib}`, 'm')
      )
    },
    /**
     * Seconds that QEMU alone takes to start a version's machine, without a supervisor, from plain files that
     * were just written.
     */
    async vmm(to = '', version = '') {
      await host().versions.restore(NAME, { to, version })
      const runDir = await mkdtemp(join(tmpdir(), 'hp-'))
      try {
        const began = performance.now()
        const machine = await qemu.start(await qemu.describe(to), { resume: true, runDir })
        const seconds = (performance.now() - began) / 1_000
        await machine.end()
        return seconds
      } finally {
        await rm(runDir, { recursive: true })
        await rm(to, { recursive: true })
      }
    },
    /** Lets nothing come that is not asked for. */
    unhoard: async () => host().retention.setHoard(NAME, { versions: 'none', files: [] }),
    hoard: async () => host().retention.setHoard(NAME, { versions: 'all', files: [] }),
    /** Reads pages of a machine's memory at random for so long, ms, and says how long each took, ms, and when it was read. */
    async touch(version = '', ms = '') {
      const { items } = await host().open(NAME, { version })
      const client = await ItemClient.connect({ ...items, prefetch: false })
      try {
        const image = await memoryOf(client)
        const waits: { at: number; took: number }[] = []
        const began = performance.now()
        while (performance.now() - began < Number(ms)) {
          const from = performance.now()
          const page = Math.floor((Math.random() * image.size) / PAGE)
          await image.read(page * PAGE, PAGE)
          waits.push({ at: from - began, took: performance.now() - from })
          await setTimeout(20)
        }
        return waits
      } finally {
        client.close()
      }
    },
    /** CPU since the start, seconds. */
    async cpu() {
      const { user, system } = process.cpuUsage()
      return (user + system) / 1e6
    }
  },
  async () => opened?.close()
)
