import { constants } from 'node:fs'
import { mkdir, open, readdir, readFile, rename, rm, type FileHandle } from 'node:fs/promises'
import { basename, join } from 'node:path'
import extensions from 'fs-native-extensions'
import { nullIfAbsent, ParcelError } from '../errors.js'
import { printable } from '../format/file-table.js'
import { contents, type Content } from '../image/contents.js'
import { FOLDER_CHANGES, FolderChanges } from '../image/folder-changes.js'
import type { FolderTree } from '../image/folder-tree.js'
import { Image } from '../image/image.js'
import type { ItemSource } from '../image/items.js'
import { changedAt, OpenTree, type OpenContent } from '../image/open-tree.js'
import { Overlay } from '../image/overlay.js'
import { TreeLookup } from '../image/tree-lookup.js'
import type { Volume } from '../image/volume.js'
import type { Places } from '../format/meta-record.js'
import type { Version } from '../format/version.js'
import type { TreeKeeper } from './fuse-folders.js'

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

/** What a folder of overlays says of itself. */
export interface Marker {
  format: 1
  /** In hex. */
  version: string
  /** Paths of the files that are images; null: all of the version. */
  files: string[] | null
}

export interface ImageSetOptions {
  /** Folder of the overlays; made if it is not there. */
  overlays: string
  /** Which of the version's files are opened, by path; null: all, and the folders may be changed. */
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
  readonly tree: FolderTree
  /** How folders are changed; null: they are the version's. */
  readonly changes: TreeKeeper | null
  /** Every file by its path, as they were when the set was opened. */
  readonly volumes: ReadonlyMap<string, Volume>
  readonly #lock: FileHandle
  readonly #images: ReadonlyMap<bigint, Opening>
  readonly #changes: FolderChanges | null

  private constructor(
    open: OpenTree,
    images: Map<bigint, Opening>,
    changes: FolderChanges | null,
    wrap: (image: Volume) => Volume,
    lock: FileHandle
  ) {
    this.tree = open.tree
    this.#images = images
    this.#changes = changes
    this.#lock = lock
    const files = open.tree.nodes().flatMap(({ path, node }) => {
      const volume = node.type === 'file' ? node.volume : null
      return volume === null ? [] : [[printable(path), volume] as const]
    })
    this.volumes = new Map(files)
    this.changes = changes === null ? null : keeperOf(open, images, changes, wrap)
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
      const all: Content[] = []
      for await (const content of contents(source, version, places)) {
        const { type, path } = content.entry
        if (type !== 'file' || wanted === null || wanted.has(printable(path))) all.push(content)
      }
      const open = new OpenTree(overlays, all)
      const changes = wanted === null ? await FolderChanges.open(overlays, open.tree) : null
      // A look at each of many small files would take longer than one at their folder.
      const written = new Set(await readdir(overlays))
      const images = new Map<bigint, Opening>()
      for (const { path, node } of open.tree.nodes()) {
        if (node.type !== 'file') continue
        const content = open.content(node, path)
        const overlay = await overlayOf(content, written)
        const name = printable(path)
        const touch = (chunk: number, pages: number): void => onTouch(name, chunk, pages)
        const image = imageOf(content, source, overlay, touch)
        images.set(node.id, { image, overlay })
        node.volume = wrap(image)
        node.mtime = await changedAt(content, overlay)
      }
      if (changes !== null) await removeStrays(overlays, written, images)
      return new ImageSet(open, images, changes, wrap, lock)
    } catch (error) {
      await lock.close()
      throw error
    }
  }

  /** Bytes that were written and are in no version. */
  get dirtyBytes(): number {
    return [...this.#images.values()].reduce((sum, { image }) => sum + image.dirtyBytes, 0)
  }

  /** Whether there is anything that is in no version. */
  get isDirty(): boolean {
    return this.dirtyBytes > 0 || this.#changes?.isEmpty === false
  }

  async flush(): Promise<void> {
    await Promise.all([...this.#images.values()].map(({ image }) => image.flush()))
    await this.#changes?.flush()
  }

  async close(): Promise<void> {
    for (const { image } of this.#images.values()) await image.close()
    this.#changes?.close()
    await this.#lock.close()
  }
}

interface Opening {
  image: Image
  overlay: Overlay
}

function keeperOf(
  open: OpenTree,
  images: Map<bigint, Opening>,
  changes: FolderChanges,
  wrap: (image: Volume) => Volume
): TreeKeeper {
  return {
    make(change) {
      changes.make(change)
      if (change.change !== 'make' || change.type !== 'file') return
      const node = open.tree.node(change.id)
      if (node?.type !== 'file') return
      const overlay = Overlay.fresh(open.madeOverlay(node), 0)
      const image = new Image(null, NOTHING, overlay)
      images.set(node.id, { image, overlay })
      node.volume = wrap(image)
    },
    async discard(id) {
      const opening = images.get(id)
      images.delete(id)
      await opening?.overlay.discard()
    },
    flush: () => changes.flush()
  }
}

/** A file that a change made has nothing to be read of a version. */
const NOTHING: ItemSource = {
  async read() {
    throw new RangeError('a file that is in no version')
  }
}

async function overlayOf(
  { entry, overlay }: OpenContent,
  written: ReadonlySet<string>
): Promise<Overlay> {
  const size = entry.type === 'file' ? entry.size : 0
  return written.has(`${basename(overlay)}.map`)
    ? await Overlay.open(overlay, size)
    : Overlay.fresh(overlay, size)
}

/** Overlays of files that were removed, also by a process that died before it could do this. */
async function removeStrays(
  overlays: string,
  written: ReadonlySet<string>,
  images: ReadonlyMap<bigint, Opening>
): Promise<void> {
  const used = new Set([...images.values()].map(({ overlay }) => overlay.name))
  for (const name of written) {
    const of = name.endsWith('.map') ? name.slice(0, -4) : name
    if (OVERLAY.test(of) && !used.has(of)) await rm(join(overlays, name), { force: true })
  }
}

const OVERLAY = /^(?:[0-9a-f]{32}|n\d+)$/

/** What the overlays of a folder are of; null when there are none. Throws INTEGRITY. */
export async function readMarker(overlays: string): Promise<Marker | null> {
  const text = await readFile(join(overlays, MARKER), 'utf8').catch(nullIfAbsent)
  if (text === null) return null
  const found = parseJson(text)
  if (isMarker(found)) return found
  throw new ParcelError(
    'INTEGRITY',
    `${join(overlays, MARKER)} is damaged, or of a newer hyperparcel`
  )
}

/** By hand: a machine that is resumed would wait for a schema's code to be loaded. */
function isMarker(value: unknown): value is Marker {
  if (typeof value !== 'object' || value === null || Object.keys(value).length !== 3) return false
  if (!('format' in value && 'version' in value && 'files' in value)) return false
  const { format, version, files } = value
  const isFiles =
    files === null || (Array.isArray(files) && files.every((path) => typeof path === 'string'))
  return format === 1 && typeof version === 'string' && isFiles
}

/** Says of what the overlays of a folder are; durably. */
export async function writeMarker(
  overlays: string,
  { version, files }: Omit<Marker, 'format'>
): Promise<void> {
  await mkdir(overlays, { recursive: true, mode: 0o700 })
  const text = `${JSON.stringify({ format: 1, version, files })}\n`
  const path = join(overlays, MARKER)
  const file = await open(`${path}.tmp`, 'w', 0o600)
  try {
    await file.writeFile(text)
    await file.sync()
  } finally {
    await file.close()
  }
  await rename(`${path}.tmp`, path)
}

/** Whether a folder of overlays has anything that is in no version. */
export async function hasOverlays(overlays: string): Promise<boolean> {
  const names: string[] = (await readdir(overlays).catch(nullIfAbsent)) ?? []
  return names.some((name) => name.endsWith('.map') || name === FOLDER_CHANGES)
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
  { entry, place }: OpenContent,
  source: ItemSource,
  overlay: Overlay,
  onTouch: (chunk: number, pages: number) => void
): Image {
  if (entry.type !== 'file') throw new RangeError('only files have contents')
  const { size, root, chunking } = entry
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
  const isSame = before?.version === wanted.version && String(before.files) === String(wanted.files)
  if (!isSame) await writeMarker(overlays, wanted)
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
