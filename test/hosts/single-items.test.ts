import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { z } from 'zod'
import { ImageSet } from '../../lib/export/image-set.js'
import { ItemClient, type ItemsAddress } from '../../lib/export/item-client.js'
import { CHUNK_SIZE } from '../../lib/format/limits.js'
import { End } from '../bench/across/end.js'
import { onEnd } from '../support/on-end.js'
import { scratch } from '../support/scratch.js'
import { TestNetwork } from './test-network.js'

const HOST = fileURLToPath(new URL('../bench/resume/host-process.js', import.meta.url))
const DHT = fileURLToPath(new URL('../bench/link/dht-process.js', import.meta.url))
const missing = TestNetwork.missing()
const CHUNKS = 32
const Place = z.object({ version: z.string(), items: z.custom<ItemsAddress>() })

test(
  'on a slow link a fault brings what is wanted, and its pack when nobody waits',
  { skip: missing ?? false, timeout: 120_000 },
  async (t) => {
    const dir = await scratch(t)
    const folder = join(dir, 'folder')
    await mkdir(folder)
    const contents = randomBytes(CHUNKS * CHUNK_SIZE)
    await writeFile(join(folder, 'file'), contents)
    const network = await TestNetwork.create({ mbit: 10, rttMs: 20 })
    onEnd(t, () => network.close())
    const start = async (side: 'a' | 'b', program: string, ...args: string[]): Promise<End> => {
      const end = await End.startBehind(network.on(side), program, ...args)
      onEnd(t, () => end.stop())
      return end
    }
    const dht = await start('a', DHT, network.address('a'))
    const address = z.string().parse(await dht.call('address'))
    const a = await start('a', HOST, join(dir, 'a'), address)
    const b = await start('b', HOST, join(dir, 'b'), address)
    await a.call('create', 'a')
    await b.call('create', 'b')
    await a.call('add', folder, 'folder')
    await b.call('join', String(await a.call('invite')))
    await b.call('close')
    // From here on nothing comes that nobody waits for.
    await b.call('open')
    const { id } = z.object({ id: z.string() }).parse(await a.call('suspend'))
    await b.call('knows', id)
    const place = Place.parse(await b.call('place'))
    const items = await ItemClient.connect({ ...place.items, prefetch: false })
    onEnd(t, async () => items.close())
    const { version, places } = items
    const opened = { id: place.version, version, places, source: items }
    const images = await ImageSet.open(opened, { overlays: join(dir, 'overlays'), files: null })
    onEnd(t, () => images.close())
    const file = images.volumes.get('file')
    assert.ok(file !== undefined)
    const read = async (chunk: number): Promise<number> => {
      const before = Number(await b.call('received'))
      const at = chunk * CHUNK_SIZE
      assert.deepEqual(await file.read(at, CHUNK_SIZE), contents.subarray(at, at + CHUNK_SIZE))
      return Number(await b.call('received')) - before
    }
    // The pages of its tree come with this one.
    await read(CHUNKS - 1)
    const later = Number(await b.call('received'))
    assert.ok((await read(5)) < 4 * CHUNK_SIZE)
    // The item, then both packs of which something was wanted.
    const packs = 33 * CHUNK_SIZE
    for (let waited = 0; Number(await b.call('received')) - later < packs; waited += 100) {
      assert.ok(waited < 60_000, 'their packs come')
      await setTimeout(100)
    }
    await setTimeout(500)
    assert.ok((await read(6)) < CHUNK_SIZE)
  }
)
