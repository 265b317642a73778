// One of our hosts, in a process of its own: ours-end-process.js NAME HOME DHT
import { readFileSync } from 'node:fs'
import { setTimeout } from 'node:timers/promises'
import { Host } from '../../../lib/index.js'
import { serve } from './end.js'

const [hostName = '', home = '', bootstrap = ''] = process.argv.slice(2)
const host = await Host.create({ name: hostName, home, bootstrap })

/** Each call is about the parcel of a name. */
serve(
  {
    add: async (name = '', folder = '') => void (await host.add(folder, { name, vm: 'folder' })),
    invite: async (name = '') => (await host.invite(name)).invite,
    join: async (name = '', invite = '') => void (await host.join(invite, { name })),
    connected: (name = '') =>
      until(async () => (await host.status(name)).peers.some((peer) => peer.isCaughtUp)),
    suspend: async (name = '') => {
      const { version } = await host.suspend(name)
      return { id: version.id, stored: version.stored }
    },
    whole: (name = '', id) =>
      until(async () => (await host.log(name)).some((known) => known.id === id && known.isHere)),
    /** Fetches the newest version; the share of all that came after the first megabyte, and how long that took. */
    arrive: async (name = '') => {
      const start = received()
      await until(async () => received() - start > 1e6)
      const [began, first] = [performance.now(), received()]
      await until(async () => (await host.status(name)).heads.some((head) => head.isHere))
      const seconds = (performance.now() - began) / 1e3
      return { seconds, share: (received() - first) / (received() - start) }
    },
    newest: (name = '') =>
      until(async () => (await host.status(name)).heads.some((head) => head.isHere)),
    resume: async (name = '', to = '') => void (await host.resume(name, { to }))
  },
  () => host.close()
)

async function until(check: () => Promise<boolean>): Promise<void> {
  while (!(await check())) await setTimeout(20)
}

/** Bytes that have come from other hosts, frames and all. */
function received(): number {
  const bytes = /^\s*eth0:\s*(\d+)/m.exec(readFileSync('/proc/self/net/dev', 'utf8'))?.[1]
  if (bytes === undefined) throw new Error('this network has no eth0')
  return Number(bytes)
}
