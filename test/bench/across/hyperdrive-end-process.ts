// One hyperdrive in a process of its own: hyperdrive-end-process.js FOLDER DHT [KEY]
// Its packages are taken from the folder that HYPERPARCEL_BENCH_PEERS names.
import { setTimeout } from 'node:timers/promises'
import { serve } from './end.js'
import { peerPackages, type Drive } from './hyperdrive-packages.js'

const [dir = '', bootstrap = '', key] = process.argv.slice(2)
const { Corestore, Hyperdrive, Hyperswarm, DHT, Localdrive, MirrorDrive } = peerPackages()
const [host = '', port = ''] = bootstrap.split(':')
const dht = new DHT({ bootstrap: [{ host, port: Number(port) }], host })
const swarm = new Hyperswarm({ dht })
const store = new Corestore(dir)
const drive: Drive = new Hyperdrive(store, key === undefined ? null : Buffer.from(key, 'hex'))
await drive.ready()
let connections = 0
swarm.on('connection', (connection) => {
  connections++
  connection.on('error', () => {})
  store.replicate(connection)
})
if (key !== undefined) {
  void drive.getBlobs().then(({ core }) => core.download({ start: 0, end: -1 }))
  drive.core.download({ start: 0, end: -1 })
}

serve(
  {
    key: async () => drive.key.toString('hex'),
    join: async () => {
      const discovery = swarm.join(drive.discoveryKey, {
        server: key === undefined,
        client: key !== undefined
      })
      await discovery.flushed()
    },
    connected: () => until(async () => connections > 0),
    import: async (from, dedup) => {
      const options = { dedup: dedup === 'dedup' }
      await new MirrorDrive(new Localdrive(from ?? ''), drive, options).done()
      const { core } = await drive.getBlobs()
      return { version: drive.version, blocks: core.length, bytes: core.byteLength }
    },
    whole: async (version, blocks) => {
      await until(async () => drive.version >= Number(version))
      const { core } = await drive.getBlobs()
      await until(async () => core.length >= Number(blocks))
      await core.download({ start: 0, end: Number(blocks) }).done()
    },
    export: async (to) => {
      await new MirrorDrive(drive, new Localdrive(to ?? '')).done()
    }
  },
  async () => {
    await swarm.destroy()
    await store.close()
  }
)

async function until(check: () => Promise<boolean>): Promise<void> {
  while (!(await check())) await setTimeout(20)
}
