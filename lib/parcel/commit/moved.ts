import type { BigIntStats } from 'node:fs'
import { lstat, readdir } from 'node:fs/promises'
import { below } from '../../chunk/paths.js'
import { isAccessError } from './walk.js'

/**
 * What may have got a new name below `root` since `since` (ns, by the system's clock): a walk that began then
 * may have passed by both names. A rename changes the times of a folder, and the ctime of what is renamed,
 * which was there before. What is written to in place in such a folder is among it. Paths as latin1.
 */
export async function movedSince(root: string, since: bigint): Promise<Set<string>> {
  const moved = new Set<string>()
  await look(Buffer.from(root), Buffer.alloc(0), { since, moved })
  return moved
}

async function look(
  folder: Buffer,
  prefix: Buffer,
  how: { since: bigint; moved: Set<string> }
): Promise<void> {
  try {
    const { mtimeNs, ctimeNs } = await lstat(folder, { bigint: true })
    const entries = await readdir(folder, { encoding: 'buffer', withFileTypes: true })
    for (const entry of entries) {
      const path = prefix.byteLength === 0 ? entry.name : below(prefix, entry.name)
      const absolute = below(folder, entry.name)
      if (mtimeNs >= how.since || ctimeNs >= how.since) {
        const stats = await lstat(absolute, { bigint: true }).catch(() => null)
        if (stats !== null && isMoved(stats, how.since)) how.moved.add(path.toString('latin1'))
      }
      if (entry.isDirectory()) await look(absolute, path, how)
    }
  } catch (error) {
    // The walk has said what it could not read, or will not find it either.
    if (!isAccessError(error)) throw error
  }
}

/** A file system that does not know when a file was made says 0. */
function isMoved({ ctimeNs, birthtimeNs }: BigIntStats, since: bigint): boolean {
  return ctimeNs >= since && birthtimeNs < since
}
