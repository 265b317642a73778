import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { test } from 'node:test'
import * as fc from 'fast-check'
import type { Entry } from '../../lib/format/entry.js'
import { entryIds } from '../../lib/format/entry.js'
import { CHUNK_SIZE } from '../../lib/format/limits.js'
import { leaves } from '../../lib/image/tree-reader.js'
import { TreeWriter } from '../../lib/image/tree-writer.js'
import { load, PageStore, store, type Placed } from './page-store.js'

const COUNTS = [0, 1, 127, 128, 129, 16_383, 16_384, 16_385]

function idOf(n: number): Buffer {
  return createHash('sha256').update(String(n)).digest()
}

function chunkEntry(n: number): Placed {
  return {
    entry: { kind: 'chunk', id: idOf(n), holes: 0 },
    places: [{ core: n % 3, block: n, ordinal: n % 100 }]
  }
}

const place = fc
  .tuple(fc.nat(65_535), fc.nat(2 ** 30), fc.nat(16_383))
  .map(([core, block, ordinal]) => ({ core, block, ordinal }))
const holes = fc.nat(0xffff)
const entry: fc.Arbitrary<Entry> = fc.oneof(
  { weight: 4, arbitrary: fc.constant<Entry>({ kind: 'hole' }) },
  { weight: 1, arbitrary: holes.map((mask): Entry => ({ kind: 'zero', holes: mask })) },
  {
    weight: 3,
    arbitrary: fc
      .tuple(fc.nat(50), holes)
      .map(([n, mask]): Entry => ({ kind: 'chunk', id: idOf(n), holes: mask }))
  },
  {
    weight: 1,
    arbitrary: fc
      .tuple(
        fc.nat(50),
        fc.array(fc.integer({ min: 1, max: 0xffff }), { minLength: 1, maxLength: 4 })
      )
      .map(([n, masks]): Entry => {
        const patches = masks.map((mask, i) => ({ mask, id: idOf(n + i + 1) }))
        return { kind: 'patched', base: idOf(n), patches }
      })
  }
)

/** Runs of one entry, so that whole pages of holes come up. */
const file = fc
  .array(
    fc
      .tuple(
        entry,
        fc.array(place, { minLength: 5, maxLength: 5 }),
        fc.oneof(fc.nat(3), fc.nat(400))
      )
      .map(([entry, places, times]): Placed[] => {
        const one = { entry, places: places.slice(0, entryIds(entry).length) }
        return Array.from({ length: times }, () => one)
      }),
    { maxLength: 12 }
  )
  .map((runs) => runs.flat())

test('random mixes come back, and places do not move the root', async () => {
  await fc.assert(
    fc.asyncProperty(file, fc.nat(1_000), async (entries, shift) => {
      const pages = new PageStore()
      const tree = await store(pages, entries)
      assert.deepEqual(await load(pages, tree), entries)
      const moved = entries.map(({ entry, places }) => ({
        entry,
        places: places.map(({ block, ordinal }) => ({ core: 1, block: block + shift, ordinal }))
      }))
      assert.deepEqual((await store(new PageStore({ shift }), moved)).root, tree.root)
      if (entries.every(({ entry }) => entry.kind === 'hole')) assert.equal(tree.root, null)
    }),
    { numRuns: 100 }
  )
})

for (const count of COUNTS) {
  test(`a file of ${count} chunks`, async () => {
    const pages = new PageStore()
    const entries = Array.from({ length: count }, (_, n) => chunkEntry(n))
    const tree = await store(pages, entries)
    assert.deepEqual(await load(pages, tree), entries)
    assert.equal(tree.root === null, count === 0)

    // The same again: nothing new. One chunk changed: a page a level, in each tree.
    pages.added = { ids: 0, places: 0, disk: 0, memory: 0, working: 0, table: 0 }
    assert.deepEqual(await store(pages, entries), tree)
    assert.deepEqual(pages.added, { ids: 0, places: 0, disk: 0, memory: 0, working: 0, table: 0 })
    if (count === 0) return
    const height = count <= 128 ? 1 : count <= 16_384 ? 2 : 3
    const changed = entries.with(count >> 1, chunkEntry(count + 1))
    const other = await store(pages, changed)
    assert.notDeepEqual(other.root, tree.root)
    assert.deepEqual(pages.added, {
      ids: height,
      places: height,
      disk: 0,
      memory: 0,
      working: 0,
      table: 0
    })
    assert.deepEqual(await load(pages, other), changed)
    assert.deepEqual(await load(pages, tree), entries)

    // Holes alone have no page; one zero chunk makes one.
    const hole: Placed = { entry: { kind: 'hole' }, places: [] }
    const empty = entries.map(() => hole)
    const none = { size: count * CHUNK_SIZE, root: null, place: null }
    assert.deepEqual(await store(pages, empty), none)
    const last = empty.with(count - 1, { entry: { kind: 'zero', holes: 1 }, places: [] })
    const sparse = await store(pages, last)
    assert.notEqual(sparse.root, null)
    assert.deepEqual(await load(pages, sparse), last)
  })
}

test('where only places moved, id pages are not written again', async () => {
  const pages = new PageStore()
  const entries = Array.from({ length: 1_000 }, (_, n) => chunkEntry(n))
  const tree = await store(pages, entries)
  const { ids } = pages.added
  const moved = entries.with(500, {
    entry: chunkEntry(500).entry,
    places: [{ core: 9, block: 9, ordinal: 9 }]
  })
  const again = await store(pages, moved)
  assert.equal(pages.added.ids, ids)
  assert.deepEqual(again.root, tree.root)
  assert.notDeepEqual(again.place, tree.place)
  assert.deepEqual(await load(pages, again), moved)
})

test('places that come late and out of order', async () => {
  const pages = new PageStore()
  const writer = new TreeWriter(pages)
  const entries = Array.from({ length: 300 }, (_, n) => chunkEntry(n))
  const release: (() => void)[] = []
  for (const { entry, places } of entries) {
    const late = places.map((place) => {
      return new Promise<typeof place>((resolve) => release.push(() => resolve(place)))
    })
    writer.push(entry, late)
  }
  const tree = writer.end()
  assert.ok(tree.root)
  for (const each of release.toReversed()) each()
  const stored = { size: 300 * CHUNK_SIZE, root: tree.root, place: await tree.place }
  assert.deepEqual(await load(pages, stored), entries)
})

test('a sink that fails is the failure of the tree, not an unhandled one', async () => {
  const writer = new TreeWriter({ add: () => Promise.reject(new Error('full')) })
  for (let n = 0; n < 20_000; n++)
    writer.push(chunkEntry(n).entry, [{ core: 0, block: 0, ordinal: 0 }])
  const { place } = writer.end()
  await new Promise((resolve) => setImmediate(resolve))
  await assert.rejects(place, { message: 'full' })
})

test('holes of 2^46 bytes take seconds at most and one page a level', async () => {
  const pages = new PageStore()
  const writer = new TreeWriter(pages)
  const count = 2 ** 46 / CHUNK_SIZE
  const started = performance.now()
  writer.pushHoles(count - 1)
  writer.push({ kind: 'zero', holes: 0 }, [])
  const { root, place } = writer.end()
  const tree = { size: 2 ** 46, root, place: await place }
  assert.ok(performance.now() - started < 5_000)
  assert.deepEqual(pages.added, { ids: 5, places: 5, disk: 0, memory: 0, working: 0, table: 0 })
  let chunks = 0
  let runs = 0
  for await (const leaf of leaves(pages, tree)) {
    assert.equal(leaf.first, chunks)
    chunks += leaf.count
    runs++
  }
  assert.equal(chunks, count)
  assert.ok(runs <= 5 * 128)
})
