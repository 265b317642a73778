// A host of the sync bench, on its site: host-process.js HOME BOOTSTRAP
import { setTimeout } from 'node:timers/promises'
import { Host } from '../../../lib/index.js'
import { serve } from '../across/end.js'

const NAME = 'work'
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
    /** CPU since the start, seconds. */
    async cpu() {
      const { user, system } = process.cpuUsage()
      return (user + system) / 1e6
    }
  },
  async () => opened?.close()
)
