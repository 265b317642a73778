import { CHUNK_SIZE, SUBPAGE_SIZE } from '../format/limits.js'

/** Pages of 4 KiB in a chunk; in a mask, bit n is the n-th. */
export const CHUNK_PAGES = CHUNK_SIZE / SUBPAGE_SIZE

/** Of the pages that a range of a chunk touches; bytes, `end` excluded. */
export function pageMask(start: number, end: number): number {
  const [first, last] = [Math.floor(start / SUBPAGE_SIZE), Math.ceil(end / SUBPAGE_SIZE)]
  return 2 ** last - 2 ** first
}

export function bitCount(mask: number): number {
  let count = 0
  for (let rest = mask; rest !== 0; rest &= rest - 1) count++
  return count
}

/** Runs of pages of a mask: bytes of the chunk, `end` excluded; ascending. */
export function* pageRuns(mask: number): Generator<{ start: number; end: number }> {
  for (let page = 0; page < CHUNK_PAGES; page++) {
    if ((mask & (1 << page)) === 0) continue
    const start = page
    while (page < CHUNK_PAGES && (mask & (1 << page)) !== 0) page++
    yield { start: start * SUBPAGE_SIZE, end: page * SUBPAGE_SIZE }
  }
}

/** Where in the chunk each page of a mask begins, ascending. */
export function* pageStarts(mask: number): Generator<number> {
  for (let page = 0; page < CHUNK_PAGES; page++) {
    if ((mask & (1 << page)) !== 0) yield page * SUBPAGE_SIZE
  }
}
