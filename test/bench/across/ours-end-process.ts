// One of our hosts, in a process of its own: ours-end-process.js NAME HOME DHT
import { setTimeout } from 'node:timers/promises'
import { Host } from '../../../lib/index.js'
import { serve } from './end.js'

const [name = '', home = '', bootstrap = ''] = process.argv.slice(2)
const host = await Host.create({ name, home, bootstrap })

serve(
  {
    add: async (folder) => void (await host.add(folder ?? '', { name: 'image', vm: 'folder' })),
    invite: async () => (await host.invite('image')).invite,
    join: async (invite) => void (await host.join(invite ?? '')),
    connected: () =>
      until(async () => (await host.status('image')).peers.some((p) => p.isCaughtUp)),
    suspend: async () => {
      const { version } = await host.suspend('image')
      return { id: version.id, stored: version.stored }
    },
    whole: (id) =>
      until(async () => (await host.log('image')).some((v) => v.id === id && v.isHere)),
    newest: () => until(async () => (await host.status('image')).heads.some((v) => v.isHere)),
    resume: async (to) => void (await host.resume('image', { to: to ?? '' }))
  },
  () => host.close()
)

async function until(check: () => Promise<boolean>): Promise<void> {
  while (!(await check())) await setTimeout(20)
}
