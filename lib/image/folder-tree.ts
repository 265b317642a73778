import { comparePaths } from '../format/file-table.js'
import type { FolderChange } from './folder-change.js'
import type { Volume } from './volume.js'

interface Common {
  id: bigint
  /** The last part of the path, as raw bytes. */
  name: Buffer
  /** Permission bits. */
  mode: number
  /** ns since 1970. */
  mtime: bigint
  /** null: of the root, and of what was removed. */
  parent: FolderNode | null
  /** When somebody set its times or permissions, ms since 1970; 0: they are the version's. */
  changed: number
}

export interface FolderNode extends Common {
  type: 'folder'
  /** By name, as latin1. */
  children: Map<string, Node>
}

export interface FileNode extends Common {
  type: 'file'
  /** Its contents; null where only the tree matters. */
  volume: Volume | null
  /** How many have it open. */
  openings: number
}

export interface LinkNode extends Common {
  type: 'symlink'
  target: Buffer
}

export type Node = FolderNode | FileNode | LinkNode

/** What a tree is made of: a file of a version, or a folder or a link. `path` as raw bytes. */
export type TreeEntry = { path: Buffer; mode: number; mtime: bigint } & (
  { type: 'folder' } | { type: 'symlink'; target: Buffer } | { type: 'file'; volume: Volume | null }
)

export const ROOT = 1n

/**
 * The folders and files of a version, by path and by number, with the changes that were made to
 * them since. Numbers are given in the order of the version's file table, and never again.
 */
export class FolderTree {
  readonly root: FolderNode
  readonly #nodes = new Map<bigint, Node>()
  #next = ROOT

  /** Entries in the order of a file table: each folder before what is in it. */
  constructor(entries: Iterable<TreeEntry>) {
    this.root = {
      ...commonOf(this.#next++, Buffer.alloc(0), {
        mode: 0o755,
        mtime: BigInt(Date.now()) * 1_000_000n
      }),
      type: 'folder',
      children: new Map()
    }
    this.#nodes.set(ROOT, this.root)
    for (const entry of entries) {
      const at = entry.path.lastIndexOf(0x2f)
      const parent = this.#folder(entry.path.subarray(0, Math.max(at, 0)))
      const common = commonOf(this.#next++, entry.path.subarray(at + 1), entry)
      this.#put(parent, nodeOf(entry, common))
    }
  }

  /** The number of what is made next. */
  get next(): bigint {
    return this.#next
  }

  /** How many files, folders and links there are, the root included. */
  get count(): number {
    return this.#nodes.size
  }

  node(id: bigint): Node | null {
    return this.#nodes.get(id) ?? null
  }

  /** Everything but the root, with its path, in the order of a file table. */
  nodes(): { path: Buffer; node: Node }[] {
    const found: { path: Buffer; node: Node }[] = []
    const look = (folder: FolderNode, before: Buffer): void => {
      for (const node of folder.children.values()) {
        const path = Buffer.concat([before, node.name])
        found.push({ path, node })
        if (node.type === 'folder') look(node, Buffer.concat([path, SLASH]))
      }
    }
    look(this.root, Buffer.alloc(0))
    return found.toSorted((a, b) => comparePaths(a.path, b.path))
  }

  /** Carries out a change. Throws RangeError, with nothing done, for one that cannot be. */
  apply(change: FolderChange): void {
    switch (change.change) {
      case 'make': {
        const parent = this.#asFolder(change.parent)
        if (change.id < this.#next) fail('a number that was given before')
        if (parent.children.has(change.name)) fail('something is there')
        this.#next = change.id + 1n
        const common = commonOf(change.id, Buffer.from(change.name, 'latin1'), change)
        common.changed = change.at
        const target = Buffer.from(change.target, 'latin1')
        this.#put(parent, nodeOf({ ...change, path: common.name, volume: null, target }, common))
        touch(parent, change.at)
        return
      }
      case 'remove': {
        const node = this.#child(change.parent, change.name)
        touch(node.parent, change.at)
        this.#drop(node)
        return
      }
      case 'move': {
        const node = this.#child(change.parent, change.name)
        const to = this.#asFolder(change.to)
        for (let at: FolderNode | null = to; at !== null; at = at.parent) {
          if (at === node) fail('a folder into itself')
        }
        const there = to.children.get(change.as)
        if (there === node) return
        if (there !== undefined) this.#drop(there)
        touch(node.parent, change.at)
        touch(to, change.at)
        node.parent?.children.delete(change.name)
        node.name = Buffer.from(change.as, 'latin1')
        this.#put(to, node)
        return
      }
      case 'attributes': {
        const node = this.#nodes.get(change.id) ?? fail('nothing has this number')
        node.mode = change.mode
        node.mtime = change.mtime
        node.changed = change.at
      }
    }
  }

  /** Of a file that was removed while it was open: nobody has it open any more. */
  forget(node: Node): void {
    if (node.parent === null && node !== this.root) this.#nodes.delete(node.id)
  }

  #put(parent: FolderNode, node: Node): void {
    node.parent = parent
    this.#nodes.set(node.id, node)
    parent.children.set(node.name.toString('latin1'), node)
  }

  #drop(node: Node): void {
    if (node.type === 'folder' && node.children.size > 0) fail('a folder that is not empty')
    node.parent?.children.delete(node.name.toString('latin1'))
    node.parent = null
    if (node.type !== 'file' || node.openings === 0) this.#nodes.delete(node.id)
  }

  #child(parent: bigint, name: string): Node {
    return this.#asFolder(parent).children.get(name) ?? fail('no such name')
  }

  #asFolder(id: bigint): FolderNode {
    const node = this.#nodes.get(id)
    return node?.type === 'folder' ? node : fail('not a folder')
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

/** Bytes of the longest path in `node` if it were `name` in `folder`; whether a version can have it is MAX_PATH_BYTES. */
export function longestPath(folder: FolderNode, name: Buffer, node: Node | null): number {
  let above = 0
  for (let at: FolderNode | null = folder; at !== null; at = at.parent) {
    if (at.name.byteLength > 0) above += at.name.byteLength + 1
  }
  return above + name.byteLength + (node === null ? 0 : below(node))
}

function below(node: Node): number {
  if (node.type !== 'folder') return 0
  let longest = 0
  for (const child of node.children.values()) {
    longest = Math.max(longest, 1 + child.name.byteLength + below(child))
  }
  return longest
}

const SLASH = Buffer.from('/')

function commonOf(
  id: bigint,
  name: Buffer,
  { mode, mtime }: { mode: number; mtime: bigint }
): Common {
  return { id, name, mode, mtime, parent: null, changed: 0 }
}

function nodeOf(entry: TreeEntry, common: Common): Node {
  switch (entry.type) {
    case 'folder':
      return { ...common, type: 'folder', children: new Map() }
    case 'symlink':
      return { ...common, type: 'symlink', target: entry.target }
    case 'file':
      return { ...common, type: 'file', volume: entry.volume, openings: 0 }
  }
}

function touch(folder: FolderNode | null, at: number): void {
  if (folder !== null) folder.mtime = BigInt(at) * 1_000_000n
}

function fail(why: string): never {
  throw new RangeError(why)
}
