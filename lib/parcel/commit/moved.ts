import type { BigIntStats } from 'node:fs'
import { lstat, readdir } from 'node:fs/promises'
import { below } from '../../chunk/paths.js'
import { isAccessError } from './walk.js'

/** Folders that are looked into side by side. */
const AT_ONCE = 8
const TOP = Buffer.alloc(0)

/**
 * What may have got a new name below `root` since `since` (ns, by the system's clock): a walk that began then
 * may have passed by both names. A rename changes the times of a folder, and the ctime of what is renamed,
 * which was there before. What is written to in place in such a folder is among it. Paths as latin1, sorted.
 */
export async function movedSince(root: string, since: bigint): Promise<string[]> {
  const moved = new Set<string>()
  for (let level: Buffer[] = [TOP]; level.length > 0;) {
    const inner: Buffer[] = []
    const folders = level.values()
    const lookOn = async (): Promise<void> => {
      for (const path of folders) {
        for (const folder of await look(Buffer.from(root), path, { since, moved }))
          inner.push(folder)
      }
    }
    const done = await Promise.allSettled(Array.from({ length: AT_ONCE }, lookOn))
    for (const result of done) if (result.status === 'rejected') throw result.reason
    level = inner
  }
  return [...moved].toSorted()
}

/** Adds what was moved in a folder; gives the folders in it. */
async function look(
  root: Buffer,
  path: Buffer,
  { since, moved }: { since: bigint; moved: Set<string> }
): Promise<Buffer[]> {
  const folder = path === TOP ? root : below(root, path)
  try {
    const [{ mtimeNs, ctimeNs }, entries] = await Promise.all([
      lstat(folder, { bigint: true }),
      readdir(folder, { encoding: 'buffer', withFileTypes: true })
    ])
    const inner: Buffer[] = []
    for (const entry of entries) {
      const inside = path === TOP ? entry.name : below(path, entry.name)
      if (mtimeNs >= since || ctimeNs >= since) {
        const stats = await lstat(below(folder, entry.name), { bigint: true }).catch(() => null)
        if (stats !== null && isMoved(stats, since)) moved.add(inside.toString('latin1'))
      }
      if (entry.isDirectory()) inner.push(inside)
    }
    return inner
  } catch (error) {
    // The walk has said what it could not read, or will not find it either.
    if (!isAccessError(error)) throw error
    return []
  }
}

/** A file system that does not know when a file was made says 0. */
function isMoved({ ctimeNs, birthtimeNs }: BigIntStats, since: bigint): boolean {
  return ctimeNs >= since && birthtimeNs < since
}
