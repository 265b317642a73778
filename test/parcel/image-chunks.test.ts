import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { join } from 'node:path'
import { test } from 'node:test'
import { ParcelError } from '../../lib/errors.js'
import { CHUNK_SIZE, CHUNKING } from '../../lib/format/limits.js'
import type { ItemSource } from '../../lib/image/items.js'
import { Overlay } from '../../lib/image/overlay.js'
import { TreeLookup } from '../../lib/image/tree-lookup.js'
import { ImageChunks } from '../../lib/parcel/image-chunks.js'
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
