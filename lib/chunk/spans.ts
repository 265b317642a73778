import { CHUNK_SIZE, chunkCount, chunkLength, SUBPAGE_SIZE } from '../format/limits.js'
import type { Extent } from './extents.js'
import { SEGMENT_SIZE } from './buffers.js'

/**
 * A run of chunks that are holes altogether, or that are as they were, or of chunks to read with
 * the mask of holes of each.
 */
export type Span =
  { kind: 'holes' | 'same'; count: number } | { kind: 'data'; chunk: number; masks: number[] }

const MOST = SEGMENT_SIZE / CHUNK_SIZE

/** The spans of a file without holes. */
export function* wholeFile(size: number): Generator<Span> {
  const count = chunkCount(size)
  for (let chunk = 0; chunk < count; chunk += MOST) {
    const masks = Array.from({ length: Math.min(MOST, count - chunk) }, () => 0)
    yield { kind: 'data', chunk, masks }
  }
}

/** Turns a file's extents into spans that cover it, in order, each at most a segment long. */
export async function* spans(
  extents: AsyncIterable<Extent> | Iterable<Extent>,
  size: number
): AsyncGenerator<Span> {
  /** Chunks before this one are in spans already. */
  let next = 0
  let masks: number[] = []
  const flush = function* (): Generator<Span> {
    if (masks.length > 0) yield { kind: 'data', chunk: next, masks }
    next += masks.length
    masks = []
  }
  for await (const { start, end } of extents) {
    const last = Math.ceil(Math.min(end, size) / CHUNK_SIZE)
    for (let chunk = Math.floor(start / CHUNK_SIZE); chunk < last; chunk++) {
      const holes = holesBeside(start, end, chunk, chunkLength(size, chunk))
      if (chunk < next + masks.length) {
        const at = chunk - next
        masks[at] = (masks[at] ?? 0) & holes
        continue
      }
      if (chunk > next + masks.length) {
        yield* flush()
        yield { kind: 'holes', count: chunk - next }
        next = chunk
      }
      // A full span is yielded only when the next chunk is known to need another one: the last
      // chunk of this extent may be the first of the next.
      if (masks.length === MOST) yield* flush()
      masks.push(holes)
    }
  }
  yield* flush()
  const count = chunkCount(size)
  if (count > next) yield { kind: 'holes', count: count - next }
}

/**
 * Whole chunks that some ranges touch, as ascending ranges apart from each other that end with the
 * file: what has to be read of a file of `size` bytes, which had `before`, when just that was written.
 */
export function touched(written: Iterable<Extent>, before: number, size: number): Extent[] {
  // A last chunk of another length is another chunk.
  const rest = before === size ? [] : [{ start: Math.min(before, size) - 1, end: size }]
  const all = [...written, ...rest]
  const runs: Extent[] = []
  for (const { start, end } of all.toSorted((a, b) => a.start - b.start)) {
    if (end <= start || start >= size) continue
    const from = Math.max(0, start - (start % CHUNK_SIZE))
    const to = Math.min(size, Math.ceil(end / CHUNK_SIZE) * CHUNK_SIZE)
    const last = runs.at(-1)
    if (last !== undefined && from <= last.end) last.end = Math.max(last.end, to)
    else runs.push({ start: from, end: to })
  }
  return runs
}

/** The same spans, with holes outside of the `touched` runs said to be as they were. */
export async function* sameOutside(
  spans: AsyncIterable<Span>,
  runs: readonly Extent[]
): AsyncGenerator<Span> {
  let chunk = 0
  let n = 0
  for await (const span of spans) {
    if (span.kind === 'data') {
      yield span
      chunk += span.masks.length
      continue
    }
    const end = chunk + span.count
    while (chunk < end) {
      const run = runs[n]
      const from = run === undefined ? end : Math.min(end, run.start / CHUNK_SIZE)
      if (from > chunk) yield { kind: 'same', count: from - chunk }
      chunk = Math.max(chunk, from)
      if (run === undefined) continue
      const to = Math.min(end, chunkCount(run.end))
      if (to > chunk) yield { kind: 'holes', count: to - chunk }
      chunk = Math.max(chunk, to)
      if (chunkCount(run.end) <= chunk) n++
    }
  }
}

/** Bits of the 4 KiB pages of a chunk that an extent does not touch. */
function holesBeside(start: number, end: number, chunk: number, length: number): number {
  const offset = chunk * CHUNK_SIZE
  const first = Math.max(0, Math.floor((start - offset) / SUBPAGE_SIZE))
  const beyond = Math.min(16, Math.ceil((Math.min(end, offset + length) - offset) / SUBPAGE_SIZE))
  const pages = Math.ceil(length / SUBPAGE_SIZE)
  let mask = 0
  for (let page = 0; page < pages; page++) {
    if (page < first || page >= beyond) mask |= 1 << page
  }
  return mask
}
