import { randomBytes } from 'node:crypto'
import { chunkId, isZero } from '../../lib/chunk/id.js'
import type { Place } from '../../lib/format/entry.js'
import { CHUNK_SIZE, CHUNKING, SUBPAGE_SIZE } from '../../lib/format/limits.js'
import { pageStarts } from '../../lib/image/chunk-pages.js'
import { Image } from '../../lib/image/image.js'
import type { ItemSource } from '../../lib/image/items.js'
import { Overlay } from '../../lib/image/overlay.js'
import { TreeLookup } from '../../lib/image/tree-lookup.js'
import { PageStore, store, type Placed, type Stored } from './page-store.js'

/** Counts what is asked for. */
export class CountingSource implements ItemSource {
  reads = 0
  readonly #source: ItemSource

  constructor(source: ItemSource) {
    this.#source = source
  }

  read(place: Place): Promise<Buffer> {
    this.reads++
    return this.#source.read(place)
  }
}

export interface StoredFile extends Stored {
  contents: Buffer
  source: CountingSource
}

/**
 * A stored file of `size` bytes: every third chunk is a hole, every fifth zero, the others random,
 * or as in `known`.
 */
export async function storeFile(size: number, known?: Buffer): Promise<StoredFile> {
  const pages = new PageStore()
  const contents = known ?? Buffer.alloc(size)
  const entries: Placed[] = []
  for (let at = 0; at < size; at += CHUNK_SIZE) {
    const n = at / CHUNK_SIZE
    const chunk = contents.subarray(at, at + CHUNK_SIZE)
    if (known === undefined && n % 3 !== 1 && n % 5 !== 4) chunk.set(randomBytes(chunk.byteLength))
    // Some begin with a hole, and have another one.
    const holes = known === undefined && n % 8 === 6 && chunk.byteLength === CHUNK_SIZE ? 0x207 : 0
    for (const start of pageStarts(holes)) chunk.fill(0, start, start + SUBPAGE_SIZE)
    const id = chunkId(chunk)
    if (n % 3 === 1) entries.push({ entry: { kind: 'hole' }, places: [] })
    else if (isZero(chunk)) entries.push({ entry: { kind: 'zero', holes: 0 }, places: [] })
    else {
      const place = await pages.add('disk', id, chunk)
      entries.push({ entry: { kind: 'chunk', id, holes }, places: [place] })
    }
  }
  const stored = await store(pages, entries, size)
  return { ...stored, contents, source: new CountingSource(pages) }
}

/** Opens the file as an image whose overlay is at `path`. */
export async function openImage(
  { size, root, place, source }: StoredFile,
  path: string
): Promise<Image> {
  const tree = new TreeLookup(source, { size, root, place, chunking: CHUNKING })
  return new Image(tree, source, await Overlay.open(path, size))
}
