import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { chunkId } from '../../lib/chunk/id.js'
import type { Entry, Patch, Place } from '../../lib/format/entry.js'
import { CHUNK_SIZE, CHUNKING, SUBPAGE_SIZE, type Chunking } from '../../lib/format/limits.js'
import { pageMask } from '../../lib/image/chunk-pages.js'
import { readChunk, readPatched, readStream } from '../../lib/image/tree-reader.js'
import { StreamWriter } from '../../lib/image/stream-writer.js'
import { PageStore } from './page-store.js'

const DAMAGED = { code: 'INTEGRITY' }

async function put(pages: PageStore, bytes: Buffer): Promise<{ id: Buffer; place: Place }> {
  const id = chunkId(bytes)
  return { id, place: await pages.add('disk', id, bytes) }
}

/** Pages of a chunk of `length` bytes that `mask` has, from `bytes`, one after the other. */
function pagesOf(bytes: Buffer, mask: number): Buffer {
  const parts: Buffer[] = []
  for (let page = 0; page < 16; page++) {
    const at = page * SUBPAGE_SIZE
    if ((mask & (1 << page)) !== 0) parts.push(bytes.subarray(at, at + SUBPAGE_SIZE))
  }
  return Buffer.concat(parts)
}

const length = fc.oneof(
  fc.constantFrom(1, 4_095, 4_096, 4_097, CHUNK_SIZE - 1, CHUNK_SIZE),
  fc.integer({ min: 1, max: CHUNK_SIZE })
)

test('a chunk under up to four patches is what a page-by-page model says', async () => {
  const masks = fc.array(fc.integer({ min: 1, max: 0xffff }), { minLength: 1, maxLength: 4 })
  await fc.assert(
    fc.asyncProperty(length, masks, async (length, masks) => {
      const pages = new PageStore()
      const within = 2 ** Math.ceil(length / SUBPAGE_SIZE) - 1
      const expected = randomBytes(length)
      const base = await put(pages, expected)
      const places = [base.place]
      const patches: Patch[] = []
      for (const any of masks) {
        const mask = (any & within) === 0 ? 1 : any & within
        const newer = randomBytes(length)
        const patch = await put(pages, pagesOf(newer, mask))
        patches.push({ mask, id: patch.id })
        places.push(patch.place)
        for (let page = 0; page < 16; page++) {
          const at = page * SUBPAGE_SIZE
          if ((mask & (1 << page)) !== 0) newer.copy(expected, at, at, at + SUBPAGE_SIZE)
        }
      }
      const entry: Entry = { kind: 'patched', base: base.id, patches }
      const chunk = await readChunk(pages, { entry, places }, of(length))
      assert.ok(chunk?.equals(expected))
      /** Which item a page comes from. */
      const itemOf = (page: number): number =>
        patches.findLastIndex(({ mask }) => (mask & (1 << page)) !== 0) + 1
      for (let start = 0; start < length; start += 1_000) {
        const end = Math.min(length, start + 1 + ((start * 7) % 9_000))
        const read = new Set<Place>()
        const source = {
          read: (place: Place) => {
            read.add(place)
            return pages.read(place)
          }
        }
        const part = await readPatched(source, { entry, places }, of(length), { start, end })
        assert.deepEqual(part, expected.subarray(start, end))
        const wanted = new Set<Place | undefined>()
        for (let page = 0; page < 16; page++) {
          if ((pageMask(start, end) & (1 << page)) !== 0) wanted.add(places[itemOf(page)])
        }
        assert.deepEqual(read, wanted)
      }
      // The pages in the store stay what they were.
      assert.deepEqual(chunkId(await pages.read(base.place)), base.id)
    }),
    { numRuns: 150 }
  )
})

function of(length: number): { length: number; chunking: Chunking } {
  return { length, chunking: CHUNKING }
}

test('holes, zeros and chunks', async () => {
  const pages = new PageStore()
  const { id, place } = await put(pages, randomBytes(5_000))
  assert.equal(await readChunk(pages, { entry: { kind: 'hole' }, places: [] }, of(5_000)), null)
  const zero = await readChunk(pages, { entry: { kind: 'zero', holes: 1 }, places: [] }, of(5_000))
  assert.deepEqual(zero, Buffer.alloc(5_000))
  const chunk = { entry: { kind: 'chunk', id, holes: 0 }, places: [place] } as const
  assert.deepEqual(await readChunk(pages, { ...chunk, places: [place] }, of(5_000)), pages.items[0])
})

test('what is not what the entry says is refused', async () => {
  const pages = new PageStore()
  const a = await put(pages, randomBytes(CHUNK_SIZE))
  const b = await put(pages, randomBytes(CHUNK_SIZE))
  const patch = await put(pages, randomBytes(SUBPAGE_SIZE))
  const chunk = (id: Buffer): Entry => ({ kind: 'chunk', id, holes: 0 })
  const patched = (mask: number, id: Buffer): Entry => {
    return { kind: 'patched', base: a.id, patches: [{ mask, id }] }
  }
  const wrong: [what: string, entry: Entry, places: Place[], length: number][] = [
    ['a chunk with another id', chunk(a.id), [b.place], CHUNK_SIZE],
    ['no place', chunk(a.id), [], CHUNK_SIZE],
    ['too many places', chunk(a.id), [a.place, a.place], CHUNK_SIZE],
    ['a chunk too long', chunk(a.id), [a.place], CHUNK_SIZE - 1],
    ['a chunk too short', chunk(patch.id), [patch.place], CHUNK_SIZE],
    ['a patch with another id', patched(1, patch.id), [a.place, b.place], CHUNK_SIZE],
    ['places swapped', patched(1, patch.id), [patch.place, a.place], CHUNK_SIZE],
    ['a patch too short', patched(3, patch.id), [a.place, patch.place], CHUNK_SIZE],
    ['a patch too long', patched(1, b.id), [a.place, b.place], CHUNK_SIZE],
    ['a patch without place', patched(1, patch.id), [a.place], CHUNK_SIZE],
    ['a base of another length', patched(1, patch.id), [a.place, patch.place], 4_096]
  ]
  for (const [what, entry, places, length] of wrong) {
    await assert.rejects(readChunk(pages, { entry, places }, of(length)), DAMAGED, what)
  }
  const short = await put(pages, randomBytes(SUBPAGE_SIZE))
  const beyond: Entry = {
    kind: 'patched',
    base: short.id,
    patches: [{ mask: 2, id: patch.id }]
  }
  const places = [short.place, patch.place]
  await assert.rejects(readChunk(pages, { entry: beyond, places }, of(SUBPAGE_SIZE)), DAMAGED)
})

test('a stream comes back, however it was written', async () => {
  const piece = fc.oneof(
    fc.nat(20).map((n) => randomBytes(n)),
    fc.nat(3 * CHUNK_SIZE).map((n) => randomBytes(n)),
    fc.constantFrom(1, CHUNK_SIZE - 1, CHUNK_SIZE, 2 * CHUNK_SIZE).map((n) => Buffer.alloc(n))
  )
  await fc.assert(
    fc.asyncProperty(fc.array(piece, { maxLength: 12 }), async (pieces) => {
      const pages = new PageStore()
      const writer = new StreamWriter(pages)
      for (const each of pieces) {
        const bytes = Buffer.from(each)
        writer.write(bytes)
        // A caller may use its buffer again at once.
        bytes.fill(0xee)
      }
      const { root, place } = writer.end()
      const read: Buffer[] = []
      const tree = { size: writer.size, chunking: CHUNKING, root, place: await place }
      for await (const chunk of readStream(pages, tree)) read.push(chunk)
      assert.ok(Buffer.concat(read).equals(Buffer.concat(pieces)))
    }),
    { numRuns: 60 }
  )
})
