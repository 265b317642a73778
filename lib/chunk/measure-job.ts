import { lstatSync, readdirSync } from 'node:fs'
import { below, joinPaths, splitPaths } from './paths.js'

/** Adds up what is in folders, and in those in them, for as long as a job may take. */
export interface MeasureJob {
  /** Absolute, as `joinPaths` has them. */
  folders: string
}

export interface MeasureResult {
  /** On disk, of regular files. */
  bytes: number
  /** Folders that were not come to; null: all were. */
  left: string | null
}

/** A worker has other things to do, too. */
const MOST = 4_096

/** What cannot be read counts nothing. */
export function measure({ folders }: MeasureJob): MeasureResult {
  const left = splitPaths(folders)
  let [bytes, seen] = [0, 0]
  for (let folder = left.pop(); folder !== undefined; folder = left.pop()) {
    for (const { name, isFolder } of list(folder)) {
      const path = below(folder, name)
      if (isFolder) left.push(path)
      else bytes += bytesOf(path)
      seen++
    }
    if (seen >= MOST) break
  }
  return { bytes, left: left.length === 0 ? null : joinPaths(left) }
}

function list(folder: Buffer): { name: Buffer; isFolder: boolean }[] {
  try {
    const entries = readdirSync(folder, { encoding: 'buffer', withFileTypes: true })
    return entries.map((entry) => ({ name: entry.name, isFolder: entry.isDirectory() }))
  } catch {
    return []
  }
}

function bytesOf(path: Buffer): number {
  try {
    const stats = lstatSync(path)
    return stats.isFile() ? Math.min(stats.blocks * 512, stats.size) : 0
  } catch {
    return 0
  }
}
