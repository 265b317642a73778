import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { readdir, readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { chunkId } from '../../lib/chunk/id.js'
import { ChunkIndex, CORE_PREFIX } from '../../lib/log/chunk-index.js'
import { Store } from '../../lib/log/store.js'
import { onEnd } from '../support/on-end.js'
import { scratch } from '../support/scratch.js'
import { NO_MOUNT, smallDisk } from '../support/small-disk.js'
import { packs, PARCEL } from './stores.js'

test(
  'where the disk is full it says so, and the store is to be opened anew',
  { skip: NO_MOUNT },
  async (t) => {
    const disk = await smallDisk(t, 32)
    const store = await Store.open(join(disk, 'store'))
    onEnd(t, () => store.close())
    const failure = (error: unknown): Promise<unknown> => store.writeFailure(error)
    const [dir, secret] = [join(disk, 'index'), randomBytes(32)]
    const index = await ChunkIndex.open(dir, secret, failure)
    const location = { core: Buffer.alloc(CORE_PREFIX, 1), block: 1, ordinal: 1 }
    const known = { id: randomBytes(32), location }
    await index.add(PARCEL, [known])
    assert.equal(store.isBroken, false)
    const fill = async (): Promise<void> => {
      for (;;) {
        const items = Array.from({ length: 8_192 }, () => ({ id: randomBytes(32), location }))
        await index.add(PARCEL, items)
      }
    }
    await assert.rejects(fill(), { code: 'DISK_FULL' })
    assert.equal(store.isBroken, true)
    await assert.rejects(index.setIndexed(known.id, 1), { code: 'DISK_FULL' })
    await index.close()
  }
)

test('an index with next to nothing in it takes but a few megabytes of the disk', async (t) => {
  const dir = join(await scratch(t), 'index')
  const index = await ChunkIndex.open(dir, randomBytes(32))
  onEnd(t, () => index.close())
  const location = { core: Buffer.alloc(CORE_PREFIX, 1), block: 1, ordinal: 1 }
  await index.add(PARCEL, [{ id: randomBytes(32), location }])
  let taken = 0
  for (const name of await readdir(dir)) taken += 512 * (await stat(join(dir, name))).blocks
  assert.ok(taken < 20 * 2 ** 20, `${taken} bytes`)
})

const byte = fc.nat(30).map((n) => Buffer.alloc(32, n))
const location = fc
  .tuple(fc.nat(), fc.nat(2 ** 40), fc.nat(16_383))
  .map(([core, block, ordinal]) => ({ core: Buffer.alloc(CORE_PREFIX, core), block, ordinal }))

test('finds what was added last, for that parcel alone, also after reopening', async (t) => {
  const dir = join(await scratch(t), 'index')
  const secret = randomBytes(32)
  const model = new Map<string, unknown>()
  const key = (parcel: Buffer, id: Buffer): string =>
    `${parcel.toString('hex')}${id.toString('hex')}`
  const parcels = [Buffer.alloc(32, 1), Buffer.alloc(32, 2)]
  const added = fc.array(fc.tuple(fc.constantFrom(...parcels), byte, location), { maxLength: 40 })
  const all = Array.from({ length: 31 }, (_, n) => Buffer.alloc(32, n))
  await fc.assert(
    fc.asyncProperty(added, async (items) => {
      const index = await ChunkIndex.open(dir, secret)
      try {
        for (const [parcel, id, location] of items) {
          await index.add(parcel, [{ id, location }])
          model.set(key(parcel, id), location)
        }
        for (const parcel of parcels) {
          const expected = all.map((id) => model.get(key(parcel, id)) ?? null)
          assert.deepEqual(await index.find(parcel, all), expected)
        }
        assert.deepEqual(await index.find(PARCEL, all.slice(0, 3)), [null, null, null])
      } finally {
        await index.close()
      }
    }),
    { numRuns: 8 }
  )
})

test('its files name no chunk, and another secret finds nothing', async (t) => {
  const dir = join(await scratch(t), 'index')
  const id = chunkId(Buffer.from('known'))
  const location = { core: Buffer.alloc(CORE_PREFIX, 3), block: 1, ordinal: 2 }
  const index = await ChunkIndex.open(dir, randomBytes(32))
  await index.add(PARCEL, [{ id, location }])
  await index.close()
  for (const name of await readdir(dir)) {
    assert.equal((await readFile(join(dir, name))).includes(id.subarray(0, 8)), false, name)
  }
  const other = await ChunkIndex.open(dir, randomBytes(32))
  onEnd(t, () => other.close())
  assert.deepEqual(await other.find(PARCEL, [id]), [null])
})

test('a location beyond the log, or in a core that cannot be referred to, counts for nothing', async (t) => {
  const { log, index, writer, reader } = await packs(t)
  const bytes = randomBytes(1_000)
  const id = chunkId(bytes)
  const core = log.key.subarray(0, CORE_PREFIX)
  for (const location of [
    { core, block: log.length, ordinal: 0 },
    { core, block: 2 ** 40, ordinal: 0 },
    { core: Buffer.alloc(CORE_PREFIX, 1), block: 0, ordinal: 0 }
  ]) {
    await index.add(PARCEL, [{ id, location }])
    const packer = writer()
    assert.deepEqual(await packer.find([id]), [null])
    const place = await packer.settle(packer.add('disk', id, bytes))
    await packer.end()
    assert.ok((await reader().read(place)).equals(bytes))
  }
})
