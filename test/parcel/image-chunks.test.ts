import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { join } from 'node:path'
import { test } from 'node:test'
import { ParcelError } from '../../lib/errors.js'
import { CHUNK_SIZE, CHUNKING } from '../../lib/format/limits.js'
import type { ItemSource } from '../../lib/image/items.js'
import { Overlay } from '../../lib/image/overlay.js'
import { TreeLookup } from '../../lib/image/tree-lookup.js'
import { ImageChunks, isOverwritten } from '../../lib/parcel/commit/image-chunks.js'
import { storeFile } from '../image/images.js'
import { packs } from '../log/stores.js'
import { scratch } from '../support/scratch.js'

test('a chunk that is elsewhere, and of which nothing was written, stays as it is', async (t) => {
  const { writer, pool } = await packs(t)
  const file = await storeFile(CHUNK_SIZE, randomBytes(CHUNK_SIZE))
  const lookup = new TreeLookup(file.source, { ...file, chunking: CHUNKING })
  const base = await lookup.entry(0)
  const elsewhere: ItemSource = {
    async read(place, id) {
      // Pages of trees are here.
      const bytes = await file.source.read(place)
      if (id !== undefined && base?.places.some(({ block }) => block === place.block) === true) {
        throw new ParcelError('UNREACHABLE', 'not here')
      }
      return bytes
    }
  }
  const overlay = await Overlay.open(join(await scratch(t), 'overlay'), CHUNK_SIZE)
  t.after(() => overlay.close())
  // It becomes longer, and the chunk that was the last is looked at.
  await overlay.resize(2 * CHUNK_SIZE)
  const chunks = new ImageChunks(overlay, lookup, {
    writer: writer(),
    pool,
    stream: 'disk',
    here: elsewhere,
    anywhere: file.source,
    isPacked: () => false
  })
  const { entry } = await chunks.store(0)
  assert.deepEqual(entry, base?.entry)
  const packed = await chunks.pack({ chunk: 0, first: 3, later: 0 })
  assert.deepEqual(packed?.entry ?? base?.entry, base?.entry)
})

test('chunks that were overwritten are stored together as each by itself, also where the file ends in its last page', async (t) => {
  const { writer, pool } = await packs(t)
  const size = 3 * CHUNK_SIZE - 3_000
  const file = await storeFile(size, randomBytes(size))
  const lookup = new TreeLookup(file.source, { ...file, chunking: CHUNKING })
  const overlay = await Overlay.open(join(await scratch(t), 'overlay'), size)
  t.after(() => overlay.close())
  const contents = randomBytes(size)
  contents.fill(0, CHUNK_SIZE, 2 * CHUNK_SIZE)
  await overlay.write(0, contents)
  const chunks = new ImageChunks(overlay, lookup, {
    writer: writer(),
    pool,
    stream: 'disk',
    here: file.source,
    anywhere: file.source,
    isPacked: () => false
  })
  const alone = async (count: number): Promise<unknown[]> => {
    const stored: unknown[] = []
    for (let n = 0; n < count; n++) stored.push((await chunks.store(n)).entry)
    return stored
  }
  assert.deepEqual(
    [0, 1, 2].map((n) => isOverwritten(overlay, n)),
    [true, true, false]
  )
  const two = await chunks.storeOverwritten(0, 2)
  assert.deepEqual(
    two.map(({ entry }) => entry),
    await alone(2)
  )
  assert.equal(two[1]?.entry.kind, 'zero')
  // It becomes longer; what was written last stays as long as it was.
  await overlay.resize(3 * CHUNK_SIZE)
  assert.equal(isOverwritten(overlay, 2), true)
  const three = await chunks.storeOverwritten(0, 3)
  assert.deepEqual(
    three.map(({ entry }) => entry),
    await alone(3)
  )
})
