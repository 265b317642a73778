import { MAX_PATH_BYTES } from '../format/limits.js'
import type { FolderChange } from '../image/folder-change.js'
import {
  longestPath,
  type FileNode,
  type FolderNode,
  type FolderTree,
  type Node
} from '../image/folder-tree.js'
import { directoryEntry, ERRNO, namesOf, OPCODE, RENAME_NOREPLACE } from './fuse-protocol.js'

/** Keeps what is changed in a tree. */
export interface TreeKeeper {
  /** Makes a change, at once and for good. A file that it makes has its volume then. */
  make(change: FolderChange): void
  /** Gives up the contents of a file that was removed and that nobody has open any more. */
  discard(id: bigint): Promise<void>
  /** Puts all changes on stable storage. */
  flush(): Promise<void>
}

/** A Linux error, thrown by a handler that has an answer of its own. */
export class Refused extends Error {
  readonly errno: number

  constructor(errno: number) {
    super(`errno ${errno}`)
    this.errno = errno
  }
}

const S_IFMT = 0o170000
export const S_IFDIR = 0o040000
export const S_IFREG = 0o100000
export const S_IFLNK = 0o120000
const O_EXCL = 0o200
const MAX_NAME = 255
/** Folders, files and links of a mounted tree: each takes some 500 bytes of memory. */
const MAX_NODES = 10_000_000
/** Folders that are open at once. */
const MAX_OPEN = 100_000

type Listed = readonly (readonly [name: Buffer, id: bigint, type: number])[]

/** Answers what the kernel asks of folders: what is in them, and changes of that. */
export class FuseFolders {
  readonly #tree: FolderTree
  readonly #changes: TreeKeeper | null
  readonly #isReadOnly: boolean
  /** What was in a folder when it was opened, by handle: it is listed in parts, and may change between them. */
  readonly #open = new Map<bigint, Listed>()
  #nextHandle = 1n

  constructor(
    tree: FolderTree,
    { changes, isReadOnly }: { changes: TreeKeeper | null; isReadOnly: boolean }
  ) {
    this.#tree = tree
    this.#changes = changes
    this.#isReadOnly = isReadOnly
  }

  /** Gives a handle for `list`. */
  open(folder: FolderNode): bigint {
    if (this.#open.size >= MAX_OPEN) throw new Refused(ERRNO.ENFILE)
    const handle = this.#nextHandle++
    this.#open.set(handle, listOf(folder))
    return handle
  }

  close(handle: bigint): void {
    this.#open.delete(handle)
  }

  /** Entries of an open folder from number `offset` on, as many as `size` bytes hold. */
  list(
    folder: FolderNode,
    { handle, offset, size }: { handle: bigint; offset: number; size: number }
  ): Buffer {
    const known = this.#open.get(handle)
    if (known === undefined) throw new Refused(ERRNO.EBADF)
    // Who begins anew wants what is there now.
    const names = offset === 0 ? listOf(folder) : known
    if (offset === 0) this.#open.set(handle, names)
    const parts: Buffer[] = []
    let left = size
    for (let n = offset; n < names.length; n++) {
      const [name, id, type] = names[n] ?? [Buffer.alloc(0), 0n, 0]
      const entry = directoryEntry(name, id, n + 1, type)
      if (entry.byteLength > left) break
      left -= entry.byteLength
      parts.push(entry)
    }
    return Buffer.concat(parts)
  }

  /** Makes a file, a folder or a link. CREATE of a file that is there gives that one. */
  make(node: Node, opcode: number, body: Buffer): Node {
    const keeper = this.#keeper()
    const parent = asFolder(node)
    const { type, mode, name, target, mayExist } = madeBy(opcode, body)
    const known = parent.children.get(name.toString('latin1'))
    if (known !== undefined && mayExist) return known
    if (known !== undefined) throw new Refused(ERRNO.EEXIST)
    requireName(parent, name, null)
    if (this.#tree.count >= MAX_NODES) throw new Refused(ERRNO.ENOSPC)
    // A folder that was removed while it was open takes nothing any more.
    if (parent.parent === null && parent !== this.#tree.root) throw new Refused(ERRNO.ENOENT)
    const id = this.#tree.next
    const at = Date.now()
    keeper.make({
      change: 'make',
      type,
      id,
      parent: parent.id,
      name: name.toString('latin1'),
      mode: mode & 0o7777,
      mtime: BigInt(at) * 1_000_000n,
      target: target.toString('latin1'),
      at
    })
    return this.#tree.node(id) ?? fail(ERRNO.EIO)
  }

  /** Removes a file, a link, or an empty folder. */
  async remove(node: Node, opcode: number, body: Buffer): Promise<void> {
    const keeper = this.#keeper()
    const parent = asFolder(node)
    const child = childOf(parent, namesOf(body, 0)[0])
    if (opcode === OPCODE.unlink && child.type === 'folder') throw new Refused(ERRNO.EISDIR)
    if (opcode === OPCODE.rmdir) requireEmpty(asFolder(child))
    const name = child.name.toString('latin1')
    keeper.make({ change: 'remove', parent: parent.id, name, at: Date.now() })
    await this.#tidy(child)
  }

  /** Moves something to another name or folder, in place of what is there. */
  async move(node: Node, opcode: number, body: Buffer): Promise<void> {
    const keeper = this.#keeper()
    const isPlain = opcode === OPCODE.rename
    const flags = isPlain ? 0 : body.readUInt32LE(8)
    if ((flags & ~RENAME_NOREPLACE) !== 0) throw new Refused(ERRNO.EINVAL)
    const [name, as = Buffer.alloc(0)] = namesOf(body, isPlain ? 8 : 16)
    const parent = asFolder(node)
    const to = asFolder(this.#tree.node(body.readBigUInt64LE(0)) ?? fail(ERRNO.ENOENT))
    const moved = childOf(parent, name)
    const there = to.children.get(as.toString('latin1'))
    if (there === moved) return
    requireName(to, as, moved)
    if (there !== undefined) {
      if ((flags & RENAME_NOREPLACE) !== 0) throw new Refused(ERRNO.EEXIST)
      if (moved.type === 'folder') requireEmpty(asFolder(there))
      else if (there.type === 'folder') throw new Refused(ERRNO.EISDIR)
    }
    for (let at: FolderNode | null = to; at !== null; at = at.parent) {
      if (at === moved) throw new Refused(ERRNO.EINVAL)
    }
    keeper.make({
      change: 'move',
      parent: parent.id,
      name: moved.name.toString('latin1'),
      to: to.id,
      as: as.toString('latin1'),
      at: Date.now()
    })
    if (there !== undefined) await this.#tidy(there)
  }

  /** Sets permissions and time of change; where nobody keeps changes, for as long as it is mounted. */
  setAttributes(node: Node, { mode, mtime }: { mode: number; mtime: bigint }): void {
    if (mode === node.mode && mtime === node.mtime) return
    if (this.#changes === null || node === this.#tree.root || node.parent === null) {
      node.mode = mode
      node.mtime = mtime
      return
    }
    this.#changes.make({ change: 'attributes', id: node.id, mode, mtime, at: Date.now() })
  }

  /** One who had a file open has it no more. */
  async release(file: FileNode): Promise<void> {
    if (file.openings > 0) file.openings--
    if (file.parent === null) await this.#tidy(file)
  }

  async #tidy(node: Node): Promise<void> {
    if (node.type !== 'file' || node.openings > 0) return
    this.#tree.forget(node)
    await this.#changes?.discard(node.id)
  }

  #keeper(): TreeKeeper {
    if (this.#isReadOnly) throw new Refused(ERRNO.EROFS)
    return this.#changes ?? fail(ERRNO.EPERM)
  }
}

/** What a request wants made. */
function madeBy(
  opcode: number,
  body: Buffer
): {
  type: 'file' | 'folder' | 'symlink'
  mode: number
  name: Buffer
  target: Buffer
  mayExist: boolean
} {
  const none = Buffer.alloc(0)
  if (opcode === OPCODE.symlink) {
    const [name = none, target = none] = namesOf(body, 0)
    if (target.byteLength === 0) throw new Refused(ERRNO.ENOENT)
    if (target.byteLength >= MAX_PATH_BYTES) throw new Refused(ERRNO.ENAMETOOLONG)
    return { type: 'symlink', mode: 0o777, name, target, mayExist: false }
  }
  const mode = body.readUInt32LE(opcode === OPCODE.create ? 4 : 0)
  const [name = none] = namesOf(body, opcode === OPCODE.mkdir ? 8 : 16)
  if (opcode === OPCODE.mkdir) return { type: 'folder', mode, name, target: none, mayExist: false }
  // A version has no devices, pipes or sockets.
  if ((mode & S_IFMT) !== S_IFREG && (mode & S_IFMT) !== 0) throw new Refused(ERRNO.EPERM)
  const mayExist = opcode === OPCODE.create && (body.readUInt32LE(0) & O_EXCL) === 0
  return { type: 'file', mode, name, target: none, mayExist }
}

/** Refuses a name that no version can have in this folder. `moved`: what would have it. */
function requireName(folder: FolderNode, name: Buffer, moved: Node | null): void {
  const text = name.toString('latin1')
  if (text === '' || text === '.' || text === '..' || text.includes('/')) {
    throw new Refused(ERRNO.EINVAL)
  }
  if (name.byteLength > MAX_NAME) throw new Refused(ERRNO.ENAMETOOLONG)
  if (longestPath(folder, name, moved) > MAX_PATH_BYTES) throw new Refused(ERRNO.ENAMETOOLONG)
}

function requireEmpty(folder: FolderNode): void {
  if (folder.children.size > 0) throw new Refused(ERRNO.ENOTEMPTY)
}

function childOf(folder: FolderNode, name: Buffer = Buffer.alloc(0)): Node {
  return folder.children.get(name.toString('latin1')) ?? fail(ERRNO.ENOENT)
}

function listOf(folder: FolderNode): Listed {
  return [
    [Buffer.from('.'), folder.id, S_IFDIR],
    [Buffer.from('..'), (folder.parent ?? folder).id, S_IFDIR],
    ...[...folder.children.values()].map((child) => [child.name, child.id, typeOf(child)] as const)
  ]
}

function typeOf({ type }: Node): number {
  return type === 'folder' ? S_IFDIR : type === 'file' ? S_IFREG : S_IFLNK
}

export function asFolder(node: Node): FolderNode {
  if (node.type !== 'folder') throw new Refused(ERRNO.ENOTDIR)
  return node
}

export function asFile(node: Node): FileNode {
  if (node.type === 'folder') throw new Refused(ERRNO.EISDIR)
  if (node.type === 'symlink') throw new Refused(ERRNO.EINVAL)
  return node
}

function fail(errno: number): never {
  throw new Refused(errno)
}
