import { CHUNK_SIZE } from '../format/limits.js'

/** Stretches of a file, ascending: [offset, length] in bytes. */
export type Ranges = [offset: number, length: number][]

/** From so many on they are drawn together, so that what is told of a file stays bounded. */
const MOST = 10_000

/** Adds some chunks of a file of `size` bytes behind those that are there. */
export function addChunks(ranges: Ranges, first: number, count: number, size: number): void {
  const [start, end] = [first * CHUNK_SIZE, Math.min((first + count) * CHUNK_SIZE, size)]
  const last = ranges.at(-1)
  if (last !== undefined && (last[0] + last[1] === start || ranges.length >= MOST)) {
    last[1] = end - last[0]
  } else {
    ranges.push([start, end - start])
  }
}
