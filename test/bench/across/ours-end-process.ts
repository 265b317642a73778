// One of our hosts, in a process of its own: ours-end-process.js NAME HOME DHT
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
    newest: (name = '') =>
      until(async () => (await host.status(name)).heads.some((head) => head.isHere)),
    resume: async (name = '', to = '') => void (await host.resume(name, { to }))
  },
  () => host.close()
)

async function until(check: () => Promise<boolean>): Promise<void> {
  while (!(await check())) await setTimeout(20)
}
