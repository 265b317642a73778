import { open } from 'node:fs/promises'

const PAGE = 4_096

/** [offset, length] in bytes, ascending, pages of 4 KiB. */
export type Ranges = [number, number][]

/** Where two images of one size differ. */
export async function differingRanges(a: string, b: string): Promise<Ranges> {
  const [left, right] = [await open(a), await open(b)]
  const [ours, theirs] = [Buffer.alloc(256 * PAGE), Buffer.alloc(256 * PAGE)]
  const ranges: Ranges = []
  try {
    for (let at = 0; ; at += ours.length) {
      const { bytesRead } = await left.read(ours, 0, ours.length, at)
      if (bytesRead === 0) return ranges
      await right.read(theirs, 0, bytesRead, at)
      for (let page = 0; page < bytesRead; page += PAGE) {
        const end = Math.min(page + PAGE, bytesRead)
        if (ours.subarray(page, end).equals(theirs.subarray(page, end))) continue
        const last = ranges.at(-1)
        if (last !== undefined && last[0] + last[1] === at + page) last[1] += end - page
        else ranges.push([at + page, end - page])
      }
    }
  } finally {
    await left.close()
    await right.close()
  }
}

/** Writes these ranges of one image into another, each page with a mark that makes it new. */
export async function writeRanges(
  from: string,
  to: string,
  ranges: Ranges,
  mark: number
): Promise<void> {
  const [source, target] = [await open(from), await open(to, 'r+')]
  try {
    for (const [offset, length] of ranges) {
      const bytes = Buffer.alloc(length)
      await source.read(bytes, 0, length, offset)
      for (let page = 0; page < length; page += PAGE) bytes.writeUInt32LE(mark, page)
      await target.write(bytes, 0, length, offset)
    }
  } finally {
    await source.close()
    await target.close()
  }
}
