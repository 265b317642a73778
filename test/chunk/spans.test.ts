import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import type { Extent } from '../../lib/chunk/extents.js'
import { SEGMENT_SIZE } from '../../lib/chunk/buffers.js'
import { sameOutside, spans, touched, wholeFile, type Span } from '../../lib/chunk/spans.js'
import { CHUNK_SIZE, chunkCount, chunkLength, SUBPAGE_SIZE } from '../../lib/format/limits.js'
import { collect } from './collect.js'

const UNITS = [SUBPAGE_SIZE, CHUNK_SIZE, SEGMENT_SIZE]

/** Offsets on, just before and just behind the boundaries that matter, and anywhere else. */
function offset(max: number): fc.Arbitrary<number> {
  const beside = fc
    .record({
      unit: fc.constantFrom(...UNITS),
      times: fc.nat(20),
      by: fc.constantFrom(-1, 0, 1)
    })
    .map(({ unit, times, by }) => Math.min(Math.max(unit * times + by, 0), max))
  return fc.oneof(beside, fc.nat(max))
}

const MAX = 3 * SEGMENT_SIZE + 5 * CHUNK_SIZE

const layout = fc
  .record({ size: offset(MAX), cuts: fc.array(offset(MAX + CHUNK_SIZE), { maxLength: 24 }) })
  .map(({ size, cuts }) => {
    const sorted = [...new Set(cuts)].toSorted((a, b) => a - b)
    const extents: Extent[] = []
    for (let i = 0; i + 1 < sorted.length; i += 2) {
      const [start = 0, end = 0] = sorted.slice(i, i + 2)
      if (start < size) extents.push({ start, end })
    }
    return { size, extents }
  })

/** For each chunk the mask of its pages that no extent touches; null when no page is touched. */
function model(extents: readonly Extent[], size: number): (number | null)[] {
  return Array.from({ length: chunkCount(size) }, (_, chunk) => {
    const pages = Math.ceil(chunkLength(size, chunk) / SUBPAGE_SIZE)
    let mask = 0
    for (let page = 0; page < pages; page++) {
      const from = chunk * CHUNK_SIZE + page * SUBPAGE_SIZE
      const to = Math.min(from + SUBPAGE_SIZE, size)
      if (!extents.some(({ start, end }) => start < to && end > from)) mask |= 1 << page
    }
    return mask === 2 ** pages - 1 ? null : mask
  })
}

/** What spans say of each chunk, in the form of the model; they must follow on one another. */
function flatten(all: readonly Span[]): (number | null)[] {
  const chunks: (number | null)[] = []
  for (const span of all) {
    if (span.kind !== 'data') {
      assert.equal(span.kind, 'holes')
      assert.ok(span.count > 0, 'an empty run of holes')
      chunks.push(...Array.from({ length: span.count }, () => null))
    } else {
      assert.equal(span.chunk, chunks.length)
      assert.ok(span.masks.length > 0 && span.masks.length * CHUNK_SIZE <= SEGMENT_SIZE)
      chunks.push(...span.masks)
    }
  }
  return chunks
}

async function* stream(extents: readonly Extent[]): AsyncGenerator<Extent> {
  yield* extents
}

test('spans cover a file exactly as a look at each page says', async () => {
  await fc.assert(
    fc.asyncProperty(layout, async ({ size, extents }) => {
      const found = flatten(await collect(spans(stream(extents), size)))
      assert.deepEqual(found, model(extents, size))
    }),
    { numRuns: 1_500 }
  )
})

test('spans of a file that is one extent are those of a file without holes', async () => {
  await fc.assert(
    fc.asyncProperty(offset(MAX), async (size) => {
      const whole = size === 0 ? [] : [{ start: 0, end: size }]
      const found = await collect(spans(stream(whole), size))
      assert.deepEqual(found, [...wholeFile(size)])
    }),
    { numRuns: 300 }
  )
})

test('a page that two extents share is read once', async () => {
  const extents = [
    { start: 0, end: CHUNK_SIZE - 10 },
    { start: CHUNK_SIZE - 5, end: CHUNK_SIZE + 5 },
    { start: CHUNK_SIZE + 9, end: CHUNK_SIZE + 10 }
  ]
  assert.deepEqual(await collect(spans(stream(extents), 3 * CHUNK_SIZE)), [
    { kind: 'data', chunk: 0, masks: [0, 0xfffe] },
    { kind: 'holes', count: 1 }
  ])
})

test('a hole of 2^46 bytes is one span', async () => {
  const size = 2 ** 46
  const extents = [{ start: size - 1, end: size }]
  const [holes, data] = await collect(spans(stream(extents), size))
  assert.deepEqual(holes, { kind: 'holes', count: size / CHUNK_SIZE - 1 })
  assert.deepEqual(data, { kind: 'data', chunk: size / CHUNK_SIZE - 1, masks: [0x7fff] })
})

test('touched runs are the whole chunks that a write, or another size, reaches', async () => {
  await fc.assert(
    fc.property(layout, offset(MAX), ({ size, extents }, before) => {
      const runs = touched(extents.toReversed(), before, size)
      const isTouched = (chunk: number): boolean => {
        const [from, to] = [chunk * CHUNK_SIZE, chunk * CHUNK_SIZE + chunkLength(size, chunk)]
        return extents.some(({ start, end }) => start < to && end > from)
      }
      for (let chunk = 0; chunk < chunkCount(size); chunk++) {
        const from = chunk * CHUNK_SIZE
        const isIn = runs.some(({ start, end }) => start <= from && end > from)
        if (isTouched(chunk)) assert.ok(isIn, `chunk ${chunk} is written`)
        const isSame =
          before === size || (chunk < chunkCount(before) - 1 && from + CHUNK_SIZE <= size)
        if (!isSame && (chunk >= Math.floor(before / CHUNK_SIZE) || from + CHUNK_SIZE > size)) {
          assert.ok(isIn, `chunk ${chunk} has another length`)
        }
        if (before === size && !isTouched(chunk)) assert.ok(!isIn, `chunk ${chunk} is as it was`)
      }
      for (const [n, { start, end }] of runs.entries()) {
        assert.equal(start % CHUNK_SIZE, 0)
        assert.ok(end === size || end % CHUNK_SIZE === 0)
        assert.ok(start > (runs[n - 1]?.end ?? -1))
      }
    })
  )
})

test('outside of touched runs all is as it was, inside the holes are holes', async () => {
  await fc.assert(
    fc.asyncProperty(layout, layout, async ({ size, extents }, { extents: written }) => {
      const runs = touched(written, size, size)
      const clipped = extents.flatMap(({ start, end }) =>
        runs.flatMap((run) => {
          const [from, to] = [Math.max(start, run.start), Math.min(end, run.end)]
          return from < to ? [{ start: from, end: to }] : []
        })
      )
      const all = await collect(
        sameOutside(
          spans(
            clipped.toSorted((a, b) => a.start - b.start),
            size
          ),
          runs
        )
      )
      const whole = model(extents, size)
      let chunk = 0
      for (const span of all) {
        const count = span.kind === 'data' ? span.masks.length : span.count
        for (let n = 0; n < count; n++, chunk++) {
          const at = chunk * CHUNK_SIZE
          const isIn = runs.some(({ start, end }) => start <= at && end > at)
          assert.equal(span.kind === 'same', !isIn)
          if (span.kind === 'data') assert.equal(span.masks[n], whole[chunk])
          if (span.kind === 'holes') assert.equal(whole[chunk], null)
        }
      }
      assert.equal(chunk, chunkCount(size))
    })
  )
})
