import { printable } from '../../format/file-table.js'
import type { Place } from '../../format/entry.js'
import { CHUNKING } from '../../format/limits.js'
import type { WorkerPool } from '../../chunk/worker-pool.js'
import type { ItemSource } from '../../image/items.js'
import { changedAt, type OpenContent } from '../../image/open-tree.js'
import { Overlay } from '../../image/overlay.js'
import type { PackWriter } from '../../log/pack-writer.js'
import type { Work } from '../../progress.js'
import { commitImage } from './commit-image.js'
import type { WorkingChunk } from './image-chunks.js'
import { streamOf } from './roles.js'
import type { Stored } from './stored.js'
import type { Used } from './trace.js'

/** What of a version is stored from images; the places of its files stay good in the new version. */
export interface Images {
  /** In the order of a file table. */
  contents: () => AsyncIterable<OpenContent>
  /** Gives only what is on this host. */
  here: ItemSource
  /** Waits for what is not. */
  anywhere: ItemSource
  /** What a resume will want first. */
  used: Used
  /** Whether that is to be packed together, if it is not. */
  isPacking: boolean
  /** Blocks that were packed for that before, as `blockName` has them. */
  packed: ReadonlySet<string>
  /** Whether an item is in one of them. */
  isPacked: (place: Place) => boolean
}

interface StoreImageOptions {
  images: Images | null
  writer: PackWriter
  pool: WorkerPool
  work: Work
  onBytes: (bytes: number) => void
}

/** Stores a file that is in an image: what the version has, with what was written to it. */
export async function storeImage(
  content: OpenContent,
  options: StoreImageOptions
): Promise<Stored> {
  const { entry, place } = content
  const { images, writer, pool, work, onBytes } = options
  if (entry.type !== 'file' || images === null) return { entry, place, stamp: null }
  const overlay = await Overlay.open(content.overlay, entry.size)
  try {
    const stream = streamOf(entry.role)
    const { used, isPacking } = images
    const file = used.files.indexOf(printable(entry.path))
    const working = isPacking ? workingChunks(used, file) : []
    if (!overlay.isDirty && (working.length === 0 || entry.chunking !== CHUNKING))
      return { entry, place, stamp: null }
    const how = { ...images, writer, pool, stream, working, signal: work.signal, onBytes }
    const tree = await commitImage({ entry, place }, overlay, how)
    const mtime = await changedAt(content, overlay)
    const { size } = overlay
    const stored = { ...entry, chunking: CHUNKING, size, root: tree.root, mtime }
    return { entry: stored, place: tree.place, stamp: null }
  } finally {
    await overlay.close()
  }
}

/** Of one file, in the order of their first use. */
function workingChunks({ touched }: Used, file: number): WorkingChunk[] {
  const chunks = new Map<number, WorkingChunk>()
  for (const [of, chunk, pages] of touched) {
    if (of !== file) continue
    const known = chunks.get(chunk)
    if (known === undefined) chunks.set(chunk, { chunk, first: pages, later: 0 })
    else known.later |= pages
  }
  return [...chunks.values()]
}
