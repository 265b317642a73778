import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { CHUNK_SIZE } from '../../lib/format/limits.js'
import { BaseTree } from '../../lib/image/base-tree.js'
import { TreeUpdate } from '../../lib/image/tree-update.js'
import { TreeWriter } from '../../lib/image/tree-writer.js'
import { load, PageStore, store, type Placed } from './page-store.js'

const HOLE: Placed = { entry: { kind: 'hole' }, places: [] }

function chunk(n: number): Placed {
  const id = createHash('sha256').update(String(n)).digest()
  return {
    entry: { kind: 'chunk', id, holes: 0 },
    places: [{ core: 0, block: 1_000_000 + n, ordinal: 0 }]
  }
}

/** Sizes beside the spans of leaves and of pages of leaves. */
const count = fc.oneof(
  fc.nat(300),
  fc.constantFrom(1, 127, 128, 129, 16_383, 16_384, 16_385, 16_640, 33_000)
)
/** Runs of holes or of chunks. */
const runs = fc.array(fc.tuple(fc.boolean(), fc.constantFrom(1, 60, 128, 500, 16_384)), {
  minLength: 1,
  maxLength: 6
})

function file(total: number, layout: readonly [boolean, number][]): Placed[] {
  const entries: Placed[] = []
  while (entries.length < total) {
    for (const [isHole, length] of layout) {
      for (let i = 0; i < length && entries.length < total; i++) {
        entries.push(isHole ? HOLE : chunk(entries.length))
      }
    }
  }
  return entries
}

test('what is taken over and what is new make the tree that they would make anew', async () => {
  await fc.assert(
    fc.asyncProperty(
      count,
      count,
      runs,
      fc.array(fc.nat(33_000), { maxLength: 8 }),
      async (before, total, layout, changed) => {
        const pages = new PageStore()
        const old = file(before, layout)
        const base = new BaseTree(pages, await store(pages, old))
        const wanted = file(total, layout)
        const touched = new Set(changed.filter((n) => n < total))
        for (const n of touched) wanted[n] = chunk(n + 1_000_000)
        for (let n = before; n < total; n++) touched.add(n)

        const writer = new TreeWriter(pages)
        for (let n = 0; n < total;) {
          let to = n
          while (to < total && !touched.has(to)) to++
          await base.copy(writer, to, total)
          assert.equal(writer.count, to)
          const one = wanted[to]
          if (one === undefined) break
          if (one.entry.kind === 'hole') writer.pushHoles(1)
          else writer.push(one.entry, one.places)
          n = to + 1
        }
        const made = writer.end()
        const fresh = await store(new PageStore(), wanted)
        assert.deepEqual(made.root, fresh.root)
        const tree = { size: total * CHUNK_SIZE, root: made.root, place: await made.place }
        assert.deepEqual(await load(pages, tree), wanted)
      }
    ),
    { numRuns: 60 }
  )
})

test('only pages on the way to a change are read and written', async () => {
  const pages = new PageStore()
  const total = 40_000
  const tree = await store(pages, file(total, [[false, total]]))
  const before = pages.added.ids
  let reads = 0
  const counting = {
    read: (place: Parameters<PageStore['read']>[0]) => {
      reads++
      return pages.read(place)
    }
  }
  const base = new BaseTree(counting, tree)
  const writer = new TreeWriter(pages)
  await base.copy(writer, 20_000, total)
  const changed = chunk(5_000_000)
  writer.push(changed.entry, changed.places)
  await base.copy(writer, total, total)
  await writer.end().place
  // A leaf, the page above it and the top, each an id page and a place page.
  assert.equal(pages.added.ids - before, 3)
  assert.ok(reads <= 8, `${reads} pages read`)
})

test('a page of the earlier version that is damaged is INTEGRITY', async () => {
  const pages = new PageStore()
  const tree = await store(pages, file(300, [[false, 300]]))
  for (const item of pages.items) item.fill(1, item.byteLength - 1)
  const base = new BaseTree(pages, tree)
  await assert.rejects(base.copy(new TreeWriter(pages), 5, 300), { code: 'INTEGRITY' })
})

test('an update takes over what it says is the same, however it is mixed', async () => {
  const step = fc.tuple(
    fc.constantFrom('same', 'new', 'holes'),
    fc.constantFrom(1, 3, 127, 128, 300)
  )
  await fc.assert(
    fc.asyncProperty(runs, fc.array(step, { maxLength: 12 }), async (layout, steps) => {
      const pages = new PageStore()
      const old = file(700, layout)
      const base = new BaseTree(pages, await store(pages, old))
      const total = steps.reduce((sum, [, count]) => sum + count, 0)
      const writer = new TreeWriter(pages)
      const update = new TreeUpdate(writer, base, total)
      const wanted: Placed[] = []
      for (const [kind, count] of steps) {
        const was = await update.was(count)
        for (let n = 0; n < count; n++) {
          const before = old[wanted.length]
          const entry = was[n] ?? null
          assert.deepEqual(entry, before?.entry.kind === 'hole' ? null : (before?.entry ?? null))
          const one = kind === 'new' ? chunk(9_000_000 + wanted.length) : HOLE
          const isSame = kind === 'same' && before !== undefined
          if (isSame) update.same(1)
          else if (one.entry.kind === 'hole') await update.pushHoles(1)
          else await update.push(one.entry, one.places)
          wanted.push(isSame ? before : one)
        }
      }
      await update.end()
      const { root, place } = writer.end()
      const tree = { size: total * CHUNK_SIZE, root, place: await place }
      assert.deepEqual(await load(pages, tree), wanted)
      assert.deepEqual(root, (await store(new PageStore(), wanted)).root)
    }),
    { numRuns: 60 }
  )
})
