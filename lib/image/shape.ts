import { PAGE_FANOUT } from '../format/limits.js'

/** Level of the top page over so many chunks: 0 when one leaf holds them all. */
export function heightOf(chunks: number): number {
  let level = 0
  while (spanOf(level) < chunks) level++
  return level
}

/** Chunks below a full page of a level; a leaf is of level 0. */
export function spanOf(level: number): number {
  return PAGE_FANOUT ** (level + 1)
}
