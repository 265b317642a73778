import { open } from 'node:fs/promises'
import { SUBPAGE_SIZE } from '../../lib/format/limits.js'

/** Writes a file that has data on the pages of `pattern` that are true, and holes elsewhere. */
export async function writeSparse(
  path: string | Buffer,
  pattern: readonly boolean[],
  size = pattern.length * SUBPAGE_SIZE
): Promise<void> {
  const handle = await open(path, 'w')
  try {
    await handle.truncate(size)
    for (const [page, isData] of pattern.entries()) {
      const at = page * SUBPAGE_SIZE
      const bytes = Buffer.alloc(Math.min(SUBPAGE_SIZE, size - at), 1 + (page % 255))
      if (isData) await handle.write(bytes, 0, bytes.byteLength, at)
    }
  } finally {
    await handle.close()
  }
}

/** Runs of pages as byte ranges, the last one cut to the file's size. */
export function runs(
  pattern: readonly boolean[],
  size = pattern.length * SUBPAGE_SIZE
): { start: number; end: number }[] {
  const found: { start: number; end: number }[] = []
  for (const [page, isData] of pattern.entries()) {
    if (!isData) continue
    const start = page * SUBPAGE_SIZE
    const end = Math.min(start + SUBPAGE_SIZE, size)
    const last = found.at(-1)
    if (last?.end === start) last.end = end
    else found.push({ start, end })
  }
  return found
}
