import { constants } from 'node:fs'
import { chmod, mkdir, open, symlink, utimes } from 'node:fs/promises'
import { printable, type FileEntry } from '../../format/file-table.js'
import { chunkLength, CHUNK_SIZE } from '../../format/limits.js'
import { writeAround } from '../../chunk/unpack-job.js'
import { contents, type Content } from '../../image/contents.js'
import type { ItemSource } from '../../image/items.js'
import { lossyLeaves, orLost } from '../../image/lossy-leaves.js'
import { readChunk } from '../../image/tree-reader.js'
import { CoreTable } from '../../log/core-table.js'
import type { Work } from '../../progress.js'
import type { Known } from '../history.js'
import type { LogSet } from '../logs/log-set.js'
import type { Loss } from '../space/lost.js'
import { addChunks, type Ranges } from '../ranges.js'
import { buildNew } from './materialise.js'
import { packsOf } from '../version-packs.js'
import { seconds } from './write-file.js'

export interface SalvageOptions {
  set: LogSet
  onLoss: (loss: Omit<Loss, 'version'>) => Promise<void>
  work: Work
}

/**
 * Writes all of a version that can be read into a new folder; what is verified, and nothing else. What
 * a file lacks is a hole in it, and told. Nothing is waited for. `dir` appears when it is done.
 */
export async function salvage(
  { id, version }: Known,
  dir: string,
  { set, onLoss, work }: SalvageOptions
): Promise<{ files: number; lost: number }> {
  const places = set.history.places(id)
  const source = packsOf(new CoreTable(places.cores), set)
  return buildNew(dir, (partial) =>
    writeAll(partial, contents(source, version, places), source, {
      total: version.totals.files,
      onLoss,
      work
    })
  )
}

async function writeAll(
  root: string,
  all: AsyncGenerator<Content>,
  source: ItemSource,
  { total, onLoss, work }: Pick<SalvageOptions, 'onLoss' | 'work'> & { total: number }
): Promise<{ files: number; lost: number }> {
  const result = { files: 0, lost: 0 }
  const later: { path: Buffer; entry: FileEntry }[] = []
  const lose = async (path: string | null, ranges: Ranges): Promise<void> => {
    result.lost++
    await onLoss({ path, ranges })
  }
  for (;;) {
    work.signal.throwIfAborted()
    const next = await orLost(all.next())
    // What a list that cannot be read on would name nobody knows.
    if (next === null) await lose(null, [])
    if (next === null || next.done === true) break
    const { entry } = next.value
    const path = Buffer.concat([Buffer.from(`${root}/`), entry.path])
    if (entry.type === 'folder') await mkdir(path, { mode: 0o700 })
    if (entry.type !== 'file') {
      later.push({ path, entry })
      continue
    }
    result.files++
    const lost = await writeFile(path, next.value, entry, { source, signal: work.signal })
    if (lost.length > 0) await lose(printable(entry.path), lost)
    const { files } = result
    work.report({ step: 'writing', done: files, total: Math.max(total, files), unit: 'files' })
  }
  for (const { path, entry } of later) {
    if (entry.type === 'symlink') await symlink(entry.target, path)
  }
  for (const { path, entry } of later.toReversed()) {
    if (entry.type !== 'folder') continue
    await chmod(path, entry.mode)
    await utimes(path, seconds(entry.mtime), seconds(entry.mtime))
  }
  return result
}

/** Returns what could not be written. */
async function writeFile(
  path: Buffer,
  { place }: Content,
  entry: FileEntry & { type: 'file' },
  { source, signal }: { source: ItemSource; signal: AbortSignal }
): Promise<Ranges> {
  const { size, root, chunking } = entry
  const lost: Ranges = []
  const handle = await open(path, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL, 0o600)
  try {
    await handle.truncate(size)
    for await (const leaf of lossyLeaves(source, { size, root, place })) {
      signal.throwIfAborted()
      if (leaf.entries === 'lost') addChunks(lost, leaf.first, leaf.count, size)
      if (leaf.entries === 'lost' || leaf.entries === null) continue
      for (const [i, one] of leaf.entries.entries()) {
        if (one.entry.kind === 'hole') continue
        const chunk = leaf.first + i
        const length = chunkLength(size, chunk)
        const bytes = await orLost(readChunk(source, one, { length, chunking }))
        const holes = 'holes' in one.entry ? one.entry.holes : 0
        if (bytes === null) addChunks(lost, chunk, 1, size)
        else writeAround(handle.fd, bytes, chunk * CHUNK_SIZE, holes)
      }
    }
    await handle.chmod(entry.mode)
    await handle.utimes(seconds(entry.mtime), seconds(entry.mtime))
  } finally {
    await handle.close()
  }
  return lost
}
