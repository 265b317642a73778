import { constants } from 'node:fs'
import { access, lstat, readdir } from 'node:fs/promises'
import { join } from 'node:path'

export interface RealFile {
  path: string
  size: number
  modified: Date
}

/** Readable files below a folder, by name, each time in the same order; none of more than `largest` bytes. */
export async function* filesOf(dir: string, largest: number): AsyncGenerator<RealFile, void> {
  const entries = await readdir(dir, { withFileTypes: true })
  for (const entry of entries.toSorted((a, b) => (a.name < b.name ? -1 : 1))) {
    // debugfs reads commands a line each, with words in them.
    if (!/^[\w.,+@=~-]+$/.test(entry.name)) continue
    const path = join(dir, entry.name)
    if (entry.isDirectory()) yield* filesOf(path, largest)
    if (!entry.isFile() || !(await isReadable(path))) continue
    const { size, mtime } = await lstat(path)
    if (size > 0 && size <= largest) yield { path, size, modified: mtime }
  }
}

async function isReadable(path: string): Promise<boolean> {
  try {
    await access(path, constants.R_OK)
    return true
  } catch {
    return false
  }
}
