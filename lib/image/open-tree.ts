import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { nullIfAbsent } from '../errors.js'
import type { FileEntry } from '../format/file-table.js'
import { CHUNKING } from '../format/limits.js'
import type { Content } from './contents.js'
import { FOLDER_CHANGES, replayChanges } from './folder-changes.js'
import { FolderTree, type Node, type TreeEntry } from './folder-tree.js'
import { overlayPath, type Overlay } from './overlay.js'

/** A file, folder or link of a version that is open for writing, under the path that it has now. */
export interface OpenContent extends Content {
  /** The overlay of its contents. */
  overlay: string
  /** When its times were set, ms since 1970; 0: they are the version's. */
  changed: number
}

/** The tree of a version before any changes, and what of the version each of its nodes is. */
export class OpenTree {
  readonly tree: FolderTree
  readonly #overlays: string
  readonly #contents = new Map<bigint, Content>()

  /** Contents in the order of the version's table. */
  constructor(overlays: string, contents: readonly Content[]) {
    this.#overlays = overlays
    this.tree = new FolderTree(contents.map(({ entry }) => entryOf(entry)))
    let id = this.tree.root.id
    for (const content of contents) this.#contents.set(++id, content)
  }

  /** What a node is now; of a file that a change made, the empty file that it was at first. */
  content(node: Node, path: Buffer): OpenContent {
    const known = this.#contents.get(node.id)
    const { mode, mtime, changed } = node
    const extensions = known?.entry.extensions ?? []
    const common = { path, mode, mtime, extensions }
    const overlay = known === undefined ? this.madeOverlay(node) : this.#ofVersion(known)
    const rest = { place: known?.place ?? null, overlay, changed }
    if (node.type === 'folder') return { entry: { ...common, type: 'folder' }, ...rest }
    if (node.type === 'symlink') {
      return { entry: { ...common, type: 'symlink', target: node.target }, ...rest }
    }
    if (known?.entry.type === 'file') return { entry: { ...known.entry, ...common }, ...rest }
    return { entry: { ...common, ...EMPTY }, ...rest }
  }

  /** The overlay of a file that a change made. */
  madeOverlay({ id }: Pick<Node, 'id'>): string {
    return join(this.#overlays, `n${id}`)
  }

  #ofVersion({ entry }: Content): string {
    return overlayPath(this.#overlays, entry.path)
  }
}

/** When a file was changed last, ns since 1970: written, or its times set after that. */
export async function changedAt(
  { entry, changed }: OpenContent,
  overlay: Overlay
): Promise<bigint> {
  const written = await overlay.writtenAt()
  // In whole milliseconds: times that were set after a write in the same one are the file's.
  return written !== null && written / 1_000_000n > BigInt(changed) ? written : entry.mtime
}

const EMPTY = { type: 'file', role: 'file', chunking: CHUNKING, size: 0, root: null } as const

/** What is in a version that is open, with the changes that were made to its folders; in the order of a file table. */
export async function* openContents(
  contents: AsyncIterable<Content>,
  overlays: string
): AsyncGenerator<OpenContent> {
  const names: string[] = (await readdir(overlays).catch(nullIfAbsent)) ?? []
  if (!names.includes(FOLDER_CHANGES)) {
    for await (const content of contents) {
      yield { ...content, overlay: overlayPath(overlays, content.entry.path), changed: 0 }
    }
    return
  }
  const all: Content[] = []
  for await (const content of contents) all.push(content)
  const open = new OpenTree(overlays, all)
  await replayChanges(overlays, open.tree)
  for (const { path, node } of open.tree.nodes()) yield open.content(node, path)
}

function entryOf(entry: FileEntry): TreeEntry {
  const { path, mode, mtime } = entry
  if (entry.type === 'folder') return { type: 'folder', path, mode, mtime }
  if (entry.type === 'symlink') {
    return { type: 'symlink', path, mode, mtime, target: entry.target }
  }
  return { type: 'file', path, mode, mtime, volume: null }
}
