import type { Volume } from './volume.js'

interface Common {
  id: bigint
  /** The last part of the path, as raw bytes. */
  name: Buffer
  /** Permission bits. */
  mode: number
  /** ns since 1970. */
  mtime: bigint
}

export interface FolderNode extends Common {
  type: 'folder'
  parent: FolderNode | null
  /** By name, as latin1. */
  children: Map<string, Node>
}

export interface FileNode extends Common {
  type: 'file'
  /** Of a file that is not open yet, as its version has it. */
  size: number
  /** Opens it, once. */
  open: () => Promise<Volume>
  volume: Volume | null
}

export interface LinkNode extends Common {
  type: 'symlink'
  target: Buffer
}

export type Node = FolderNode | FileNode | LinkNode

/** What a tree is made of: a file of a version, or a folder or a link. `path` as raw bytes. */
export type TreeEntry = { path: Buffer; mode: number; mtime: bigint } & (
  | { type: 'folder' }
  | { type: 'symlink'; target: Buffer }
  | { type: 'file'; size: number; open: () => Promise<Volume> }
)

/** The folders and files of a version, by path and by number. They never change; contents do. */
export class FileTree {
  readonly root: FolderNode
  readonly #nodes = new Map<bigint, Node>()

  /** Entries in the order of a file table: each folder before what is in it. */
  constructor(entries: Iterable<TreeEntry>) {
    const [name, mode, mtime] = [Buffer.alloc(0), 0o755, 0n]
    const children = new Map<string, Node>()
    this.root = { type: 'folder', id: 1n, name, mode, mtime, parent: null, children }
    this.#nodes.set(1n, this.root)
    for (const entry of entries) this.#add(entry)
  }

  node(id: bigint): Node | null {
    return this.#nodes.get(id) ?? null
  }

  #add(entry: TreeEntry): void {
    const at = entry.path.lastIndexOf(0x2f)
    const parent = this.#folder(entry.path.subarray(0, Math.max(at, 0)))
    const { mode, mtime } = entry
    const common = {
      id: BigInt(this.#nodes.size + 1),
      name: entry.path.subarray(at + 1),
      mode,
      mtime
    }
    const node = nodeOf(entry, common, parent)
    this.#nodes.set(node.id, node)
    parent.children.set(node.name.toString('latin1'), node)
  }

  #folder(path: Buffer): FolderNode {
    let folder = this.root
    for (const name of path.toString('latin1').split('/')) {
      if (name === '') continue
      const child = folder.children.get(name)
      if (child?.type !== 'folder') throw new RangeError('a file before its folder')
      folder = child
    }
    return folder
  }
}

function nodeOf(entry: TreeEntry, common: Common, parent: FolderNode): Node {
  switch (entry.type) {
    case 'folder':
      return { ...common, type: 'folder', parent, children: new Map() }
    case 'symlink':
      return { ...common, type: 'symlink', target: entry.target }
    case 'file':
      return { ...common, type: 'file', size: entry.size, open: entry.open, volume: null }
  }
}
