import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { mkdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { CHUNK_SIZE, CHUNKING, SUBPAGE_SIZE } from '../../lib/format/limits.js'
import type { Trace } from '../../lib/format/meta-record.js'
import { CHUNK_PAGES } from '../../lib/image/chunk-pages.js'
import { contents } from '../../lib/image/contents.js'
import { Image } from '../../lib/image/image.js'
import type { ItemSource } from '../../lib/image/items.js'
import { Overlay, overlayPath } from '../../lib/image/overlay.js'
import { TreeLookup } from '../../lib/image/tree-lookup.js'
import { FaultSource } from '../../lib/parcel/fetch/faults.js'
import type { Known } from '../../lib/parcel/history.js'
import { blockName } from '../../lib/parcel/commit/trace.js'
import { TestParcel } from './parcels.js'

const CHUNKS = 12
/** The last page is not whole. */
const SIZE = CHUNKS * CHUNK_SIZE - 5_000
const FILE = Buffer.from('memory')
const NOTHING = { report: () => {}, note: () => {}, signal: new AbortController().signal }

interface Day {
  /** Pages that are written, and those that are made zero. */
  written: number[]
  zeroed: number[]
  /** Chunks that are written whole. */
  overwritten: number[]
  /** The machine goes on: what can be is stored before it stands still, and what it used is told afterwards. */
  isCheckpoint: boolean
  /** Chunk and mask of what is read, in order. */
  touched: [number, number][]
}

const page = fc.nat(Math.ceil(SIZE / SUBPAGE_SIZE) - 1)
const day: fc.Arbitrary<Day> = fc.record({
  written: fc.array(page, { maxLength: 12 }),
  zeroed: fc.array(page, { maxLength: 6 }),
  overwritten: fc.array(fc.nat(CHUNKS - 1), { maxLength: 8 }),
  isCheckpoint: fc.boolean(),
  touched: fc.array(fc.tuple(fc.nat(CHUNKS - 1), fc.integer({ min: 1, max: 0xffff })), {
    maxLength: 10
  })
})

test('what a machine used is read out of the blocks that its trace names, day after day', async (t) => {
  const test = await TestParcel.create(t)
  const file = join(test.folder, 'memory')
  const overlays = join(test.home, 'overlays')
  await fc.assert(
    fc.asyncProperty(fc.array(day, { minLength: 1, maxLength: 6 }), async (days) => {
      const model = randomBytes(SIZE)
      // A chunk of zeros, and one that is half of them.
      model.fill(0, CHUNK_SIZE, 2 * CHUNK_SIZE)
      model.fill(0, 3 * CHUNK_SIZE, 3.5 * CHUNK_SIZE)
      await writeFile(file, model)
      let known = await test.commit({}, test.folder, { roles: { memory: 'memory' } })
      for (const { written, zeroed, overwritten, isCheckpoint, touched } of days) {
        await rm(overlays, { recursive: true, force: true })
        await mkdir(overlays)
        const overlay = await Overlay.open(overlayPath(overlays, FILE), SIZE)
        for (const at of written) {
          const bytes = randomBytes(Math.min(SUBPAGE_SIZE, SIZE - at * SUBPAGE_SIZE))
          model.set(bytes, at * SUBPAGE_SIZE)
          await overlay.write(at * SUBPAGE_SIZE, bytes)
        }
        for (const chunk of overwritten) {
          const start = chunk * CHUNK_SIZE
          const bytes = randomBytes(Math.min(CHUNK_SIZE, SIZE - start))
          model.set(bytes, start)
          await overlay.write(start, bytes)
        }
        for (const at of zeroed) {
          model.fill(0, at * SUBPAGE_SIZE, Math.min(SIZE, (at + 1) * SUBPAGE_SIZE))
          await overlay.zero(at, at + 1)
        }
        await overlay.flush()
        await overlay.close()
        const used = { files: ['memory'], touched: touched.map(([c, m]) => [0, c, m] as const) }
        const isPacking = !isCheckpoint
        const request = {
          path: null,
          images: { version: known.id, overlays, isImage: () => true, used, isPacking },
          roles: {},
          exclude: () => false,
          facts: {},
          message: '',
          compress: true
        }
        const { author } = test.parcel
        const rest = async (): Promise<void> => {}
        if (isCheckpoint) await author.storeAhead(request, { rest, work: NOTHING })
        const { version, fetched } = await author.commit(request, NOTHING)
        assert.equal(fetched, 0)
        if (isCheckpoint) {
          // But for pages of trees, and the table.
          assert.ok(version.version.totals.stored < CHUNK_SIZE, 'contents were stored again')
          assert.equal(test.parcel.history.trace(version.id), null)
          await author.addTrace(version, request, NOTHING)
        }
        const before = known
        known = version
        assert.ok((await read(test, known, null, [[0, SIZE]]))[0]?.equals(model))
        const trace = test.parcel.history.trace(known.id)
        assert.ok(trace)
        const ranges = touched.flatMap(([chunk, mask]) => rangesOf(chunk, mask))
        const parts = await read(test, known, trace, ranges)
        for (const [n, [start, end]] of ranges.entries()) {
          assert.ok(parts[n]?.equals(model.subarray(start, end)), `page at ${start}`)
        }
        await requireBeside(test, known, trace)
        // The version before is still what it was made of.
        await read(test, before, null, [[0, SIZE]])
      }
    }),
    { numRuns: 25 }
  )
})

/** Of chunks that were used the trace names what was written, and the rest where that was often. */
async function requireBeside(
  { parcel }: TestParcel,
  { id, version }: Known,
  trace: Trace
): Promise<void> {
  const places = parcel.history.places(id)
  const source = new FaultSource(places, parcel.faults, NOTHING.signal)
  const named = new Set(trace.blocks.map(blockName))
  for await (const { entry, place } of contents(source, version, places)) {
    if (entry.type !== 'file') continue
    const tree = new TreeLookup(source, { ...entry, place, chunking: CHUNKING })
    for (const { chunk } of trace.touched) {
      const parts = (await tree.entry(chunk))?.places ?? []
      const likely = parts.length > 2 ? parts : parts.slice(1)
      for (const part of likely) assert.ok(named.has(blockName(part)), `chunk ${chunk}`)
    }
  }
}

/** Each page of a mask, and all from the first to the last where there is no gap. */
function rangesOf(chunk: number, mask: number): [number, number][] {
  const ranges: [number, number][] = []
  for (let at = 0; at < CHUNK_PAGES; at++) {
    if ((mask & (1 << at)) === 0) continue
    const start = chunk * CHUNK_SIZE + at * SUBPAGE_SIZE
    const end = Math.min(start + SUBPAGE_SIZE, SIZE)
    if (start >= SIZE) continue
    const last = ranges.at(-1)
    if (last?.[1] === start) ranges.push([last[0], end])
    ranges.push([start, end])
  }
  return ranges
}

/** Reads ranges of a version's file as an image does; with a trace, out of its blocks alone. */
async function read(
  { parcel, home }: TestParcel,
  { id, version }: Known,
  trace: Trace | null,
  ranges: [number, number][]
): Promise<Buffer[]> {
  const places = parcel.history.places(id)
  const all = new FaultSource(places, parcel.faults, NOTHING.signal)
  const named = new Set(trace?.blocks.map(blockName))
  const source: ItemSource = {
    async read(place) {
      assert.ok(trace === null || named.has(blockName(place)), `block ${place.block} is not named`)
      return all.read(place)
    }
  }
  for await (const { entry, place } of contents(source, version, places)) {
    if (entry.type !== 'file') continue
    const tree = new TreeLookup(source, { ...entry, place, chunking: CHUNKING })
    const parts: Buffer[] = []
    for (const [start, end] of ranges) {
      // Each with nothing kept of the others.
      const image = new Image(tree, source, Overlay.fresh(join(home, 'none'), entry.size))
      parts.push(await image.read(start, end - start))
      await image.close()
    }
    return parts
  }
  throw new Error('no file')
}
