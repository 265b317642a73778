import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { ParcelError } from '../../lib/errors.js'
import { Writer } from '../../lib/format/codec.js'
import { entryIds, writeEntry, type Entry, type Place } from '../../lib/format/entry.js'
import { CHUNK_SIZE } from '../../lib/format/limits.js'
import { leaves } from '../../lib/image/tree-reader.js'
import { TreeWriter } from '../../lib/image/tree-writer.js'
import { entry } from './arbitrary.js'
import { treeRoot } from './independent.js'

/** Pages in memory, by the block number of their place; each page once. */
class Pages {
  readonly pages: Buffer[] = []
  readonly #known = new Map<string, Place>()

  add(_stream: 'ids' | 'places', id: Buffer, bytes: Buffer): Promise<Place> {
    const known = this.#known.get(id.toString('hex'))
    if (known !== undefined) return Promise.resolve(known)
    const place = { core: 0, block: this.pages.push(bytes) - 1, ordinal: 0 }
    this.#known.set(id.toString('hex'), place)
    return Promise.resolve(place)
  }

  read({ block }: Place): Promise<Buffer> {
    const page = this.pages[block]
    if (page === undefined) return Promise.reject(new ParcelError('INTEGRITY', 'no such page'))
    return Promise.resolve(page)
  }
}

type Run = { entry: Entry; count: number }
const count = fc.oneof(
  fc.integer({ min: 1, max: 300 }),
  fc.constantFrom(1, 127, 128, 129, 16_384 - 128, 16_384)
)
const kinds = fc.oneof(fc.constant<Entry>({ kind: 'hole' }), entry)
const runs: fc.Arbitrary<Run[]> = fc.array(
  fc.tuple(kinds, count).map(([one, n]) => ({ entry: one, count: n })),
  { minLength: 1, maxLength: 3 }
)

function build(pages: Pages, made: readonly Run[]) {
  const writer = new TreeWriter(pages)
  for (const run of made) {
    if (run.entry.kind === 'hole') writer.pushHoles(run.count)
    else for (let i = 0; i < run.count; i++) writer.push(run.entry, placesOf(run.entry))
  }
  return writer.end()
}

function placesOf(one: Entry): Place[] {
  return entryIds(one).map((_, ordinal) => ({ core: 3, block: 5, ordinal }))
}

test('a tree has the root that the text of the format says, and reads back entry by entry', async () => {
  await fc.assert(
    fc.asyncProperty(runs, async (made) => {
      const pages = new Pages()
      const tree = build(pages, made)
      const place = await tree.place
      const entries = made.flatMap((run) => Array.from({ length: run.count }, () => run.entry))
      const encoded = made.flatMap((run) => {
        const bytes = encode(run.entry)
        return Array.from({ length: run.count }, () => bytes)
      })
      assert.deepEqual(tree.root, treeRoot(encoded))
      assert.equal(place === null, tree.root === null)
      const size = entries.length * CHUNK_SIZE
      let next = 0
      for await (const leaf of leaves(pages, { size, root: tree.root, place })) {
        assert.equal(leaf.first, next)
        for (let i = 0; i < leaf.count; i++) {
          const expected = entries[next++]
          assert.ok(expected !== undefined)
          const got = leaf.entries?.[i]
          if (got === undefined) assert.equal(expected.kind, 'hole')
          else assert.deepEqual(got, { entry: expected, places: placesOf(expected) })
        }
      }
      assert.equal(next, entries.length)
    }),
    { numRuns: 15 }
  )
})

test('a changed byte of any page, or another size, is INTEGRITY or shows as another place', async () => {
  const id = Buffer.alloc(32, 7)
  const pages = new Pages()
  const made: Run[] = [
    { entry: { kind: 'chunk', id, holes: 0 }, count: 130 },
    { entry: { kind: 'hole' }, count: 200 },
    { entry: { kind: 'zero', holes: 0 }, count: 3 }
  ]
  const tree = build(pages, made)
  const place = await tree.place
  const size = 333 * CHUNK_SIZE
  const read = async (bytes: number): Promise<Entry[]> => {
    const found: Entry[] = []
    for await (const leaf of leaves(pages, { size: bytes, root: tree.root, place })) {
      for (let i = 0; i < leaf.count; i++) found.push(leaf.entries?.[i]?.entry ?? { kind: 'hole' })
    }
    return found
  }
  const whole = await read(size)
  assert.equal(whole.length, 333)
  for (const other of [size - CHUNK_SIZE, size + CHUNK_SIZE, CHUNK_SIZE, 2 ** 48]) {
    await assert.rejects(read(other), damaged)
  }
  for (const page of pages.pages) {
    for (let at = 0; at < page.byteLength; at += 7) {
      page[at] = (page[at] ?? 0) ^ 1
      // Only a page of places can differ and still be read: the ids stay those of the root.
      const got = await read(size).catch((error: unknown) => {
        assert.ok(damaged(error))
        return whole
      })
      assert.deepEqual(got, whole)
      page[at] = (page[at] ?? 0) ^ 1
    }
  }
})

function encode(one: Entry): Buffer {
  const writer = new Writer()
  writeEntry(writer, one)
  return Buffer.from(writer.bytes())
}

function damaged(error: unknown): boolean {
  return error instanceof ParcelError && error.code === 'INTEGRITY'
}
