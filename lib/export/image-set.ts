import { constants } from 'node:fs'
import { mkdir, open, readdir, readFile, type FileHandle } from 'node:fs/promises'
import { basename, join } from 'node:path'
import extensions from 'fs-native-extensions'
import { z } from 'zod'
import { ParcelError } from '../errors.js'
import { printable, type FileEntry } from '../format/file-table.js'
import { contents, type Content } from '../image/contents.js'
import { Image } from '../image/image.js'
import type { ItemSource } from '../image/items.js'
import { Overlay, overlayPath } from '../image/overlay.js'
import { TreeLookup } from '../image/tree-lookup.js'
import type { Places } from '../format/meta-record.js'
import type { Version } from '../format/version.js'
import { FileTree, type TreeEntry } from './file-tree.js'
import type { Volume } from './volume.js'

/** A version to be opened, and where to read it from. */
export interface Opened {
  /** Its id, in hex. */
  id: string
  version: Version
  places: Places
  source: ItemSource
}

/** In an overlay folder: which version the overlays are of. */
const MARKER = 'images.json'
const LOCK = 'lock'
const marker = z.strictObject({
  format: z.literal(1),
  /** In hex. */
  version: z.string(),
  /** Paths of the files that are images; null: all of the version. */
  files: z.array(z.string()).nullable()
})

/** What a folder of overlays says of itself. */
export type Marker = z.infer<typeof marker>

export interface ImageSetOptions {
  /** Folder of the overlays; made if it is not there. */
  overlays: string
  /** Which of the version's files are opened, by path; null: all. */
  files: readonly string[] | null
  /** What is served in place of an image. */
  wrap?: (image: Volume) => Volume
  onTouch?: (path: string, chunk: number, pages: number) => void
}

/**
 * The files of a version as images that can be written, each with its overlay. One process at a
 * time has the overlays of a folder.
 */
export class ImageSet {
  readonly tree: FileTree
  /** Every file by its path. */
  readonly volumes: ReadonlyMap<string, Volume>
  readonly #lock: FileHandle
  readonly #images: Map<string, Image>

  private constructor(
    tree: FileTree,
    volumes: ReadonlyMap<string, Volume>,
    images: Map<string, Image>,
    lock: FileHandle
  ) {
    this.tree = tree
    this.volumes = volumes
    this.#images = images
    this.#lock = lock
  }

  /** Throws RUNNING when another process has them, CONFLICT for overlays of another version. */
  static async open(
    { id, version, places, source }: Opened,
    { overlays, files, wrap = same, onTouch = () => {} }: ImageSetOptions
  ): Promise<ImageSet> {
    await mkdir(overlays, { recursive: true, mode: 0o700 })
    const lock = await lockFolder(overlays)
    try {
      await requireVersion(overlays, { version: id, files: files === null ? null : [...files] })
      const wanted = files === null ? null : new Set(files)
      // A look at each of many small files would take longer than one at their folder.
      const written = new Set(await readdir(overlays))
      const images = new Map<string, Image>()
      const entries: TreeEntry[] = []
      const volumes = new Map<string, Volume>()
      for await (const content of contents(source, version, places)) {
        const { entry } = content
        const { path, mode, mtime } = entry
        if (entry.type === 'folder') entries.push({ type: 'folder', path, mode, mtime })
        else if (entry.type === 'symlink') {
          entries.push({ type: 'symlink', path, mode, mtime, target: entry.target })
        } else if (wanted === null || wanted.has(printable(path))) {
          const name = printable(path)
          const touch = (chunk: number, pages: number): void => onTouch(name, chunk, pages)
          const at = overlayPath(overlays, path)
          const overlay = written.has(`${basename(at)}.map`)
            ? await Overlay.open(at, entry.size)
            : Overlay.fresh(at, entry.size)
          const image = imageOf(content, entry, source, overlay, touch)
          images.set(name, image)
          const volume = wrap(image)
          volumes.set(name, volume)
          const open = async (): Promise<Volume> => volume
          entries.push({ type: 'file', path, mode, mtime, size: image.size, open })
        }
      }
      return new ImageSet(new FileTree(entries), volumes, images, lock)
    } catch (error) {
      await lock.close()
      throw error
    }
  }

  /** Bytes that were written and are in no version. */
  get dirtyBytes(): number {
    return [...this.#images.values()].reduce((sum, { dirtyBytes }) => sum + dirtyBytes, 0)
  }

  async flush(): Promise<void> {
    await Promise.all([...this.#images.values()].map((image) => image.flush()))
  }

  async close(): Promise<void> {
    for (const image of this.#images.values()) await image.close()
    await this.#lock.close()
  }
}

/** What the overlays of a folder are of; null when there are none. Throws INTEGRITY. */
export async function readMarker(overlays: string): Promise<Marker | null> {
  const text = await readFile(join(overlays, MARKER), 'utf8').catch(() => null)
  if (text === null) return null
  const parsed = marker.safeParse(parseJson(text))
  if (parsed.success) return parsed.data
  throw new ParcelError(
    'INTEGRITY',
    `${join(overlays, MARKER)} is damaged, or of a newer hyperparcel`
  )
}

/** Says of what the overlays of a folder are; durably. */
export async function writeMarker(
  overlays: string,
  { version, files }: Omit<Marker, 'format'>
): Promise<void> {
  await mkdir(overlays, { recursive: true, mode: 0o700 })
  const file = await open(join(overlays, MARKER), 'w', 0o600)
  try {
    await file.writeFile(`${JSON.stringify({ format: 1, version, files })}\n`)
    await file.sync()
  } finally {
    await file.close()
  }
}

/** Whether anything was written to an image whose overlay is in a folder. */
export async function hasOverlays(overlays: string): Promise<boolean> {
  const names = await readdir(overlays).catch(() => [])
  return names.some((name) => name.endsWith('.map'))
}

/** Makes sure that no other process has the overlays. Throws RUNNING. The lock ends when it is closed. */
export async function lockFolder(overlays: string): Promise<FileHandle> {
  const flags = constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW
  const file = await open(join(overlays, LOCK), flags, 0o600)
  if (extensions.tryLock(file.fd)) return file
  await file.close()
  throw new ParcelError('RUNNING', `the images in ${overlays} are open in another process`)
}

function imageOf(
  { place }: Content,
  { size, root, chunking }: FileEntry & { type: 'file' },
  source: ItemSource,
  overlay: Overlay,
  onTouch: (chunk: number, pages: number) => void
): Image {
  const tree = new TreeLookup(source, { size, chunking, root, place })
  return new Image(tree, source, overlay, onTouch)
}

async function requireVersion(overlays: string, wanted: Omit<Marker, 'format'>): Promise<void> {
  const before = await readMarker(overlays)
  if (before !== null && before.version !== wanted.version && (await hasOverlays(overlays))) {
    throw new ParcelError(
      'CONFLICT',
      `${overlays} has what was written to another version, ${before.version.slice(0, 12)}`
    )
  }
  await writeMarker(overlays, wanted)
}

function same(image: Volume): Volume {
  return image
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return null
  }
}
