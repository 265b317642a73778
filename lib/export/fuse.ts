import { closeSync, read, writevSync } from 'node:fs'
import type { FileNode, FileTree, FolderNode, Node } from './file-tree.js'
import {
  attributesReply,
  directoryEntry,
  entryReply,
  ERRNO,
  FALLOCATE,
  HEADER_BYTES,
  initReply,
  LEAST,
  MAX_WRITE,
  OPCODE,
  openReply,
  readRequest,
  reply,
  SEEK,
  SETATTR,
  statfsReply,
  TREE_CHANGES,
  VERSION,
  type Attributes,
  type Request
} from './fuse-protocol.js'
import type { Volume } from './volume.js'

export interface FuseOptions {
  /**
   * Bytes that the kernel may read ahead of what is asked for: 0 for a guest's memory, whose pages
   * are wanted in no order.
   */
  readahead: number
  isReadOnly: boolean
  /** Bytes of the file system on which what is written ends up. */
  space: () => { total: number; free: number }
}

/** The first word of a Linux error, thrown by a handler that has an answer of its own. */
class Refused extends Error {
  readonly errno: number

  constructor(errno: number) {
    super(`errno ${errno}`)
    this.errno = errno
  }
}

const S_IFDIR = 0o040000
const S_IFREG = 0o100000
const S_IFLNK = 0o120000

/**
 * Answers the kernel's requests for one mounted tree. `answer` knows nothing of /dev/fuse: it is
 * given a frame and says what to reply, so that frames can come from anywhere.
 */
export class FuseFileSystem {
  readonly #tree: FileTree
  readonly #options: FuseOptions
  /** Requests under way, by number: each may be interrupted. */
  readonly #pending = new Map<bigint, (answer: Buffer[]) => void>()
  readonly #uid = process.getuid?.() ?? 0
  readonly #gid = process.getgid?.() ?? 0
  #isAbandoned = false

  constructor(tree: FileTree, options: FuseOptions) {
    this.#tree = tree
    this.#options = options
  }

  /** How many requests wait for an answer. */
  get pending(): number {
    return this.#pending.size
  }

  /** The reply to a frame, in parts; null when it wants none. Never throws. */
  async answer(frame: Buffer): Promise<Buffer[] | null> {
    const request = readRequest(frame)
    if (request === null) return null
    const { opcode, unique, body } = request
    if (opcode === OPCODE.forget || opcode === OPCODE.batchForget) return null
    if (body.byteLength < (LEAST.get(opcode) ?? 0)) return reply(unique, ERRNO.EINVAL)
    if (opcode === OPCODE.interrupt) {
      const target = body.readBigUInt64LE(0)
      this.#pending.get(target)?.(reply(target, ERRNO.EINTR))
      return null
    }
    if (this.#isAbandoned) return reply(unique, ERRNO.EIO)
    // A request that is there twice cannot come from a kernel.
    if (this.#pending.has(unique)) return reply(unique, ERRNO.EINVAL)
    return new Promise((resolve) => {
      const settle = (answer: Buffer[]): void => {
        if (this.#pending.get(unique) !== settle) return
        this.#pending.delete(unique)
        resolve(answer)
      }
      this.#pending.set(unique, settle)
      this.#carryOut(request).then(
        (parts) => settle(reply(unique, 0, parts)),
        (error: unknown) => settle(reply(unique, errnoOf(error)))
      )
    })
  }

  /**
   * Answers all that waits, and all that comes, with an error: for a process that is to be killed
   * and does not die before its page has come.
   */
  abandon(): void {
    this.#isAbandoned = true
    for (const [unique, settle] of this.#pending) settle(reply(unique, ERRNO.EIO))
  }

  async #carryOut(request: Request): Promise<Buffer[]> {
    const { opcode, node: id, body } = request
    if (opcode === OPCODE.init) return this.#init(body)
    if (opcode === OPCODE.statfs) return [statfsReply(this.#options.space())]
    if (opcode === OPCODE.destroy) return []
    const node = this.#tree.node(id)
    if (node === null) throw new Refused(ERRNO.ENOENT)
    switch (opcode) {
      case OPCODE.lookup:
        return [entryReply(this.#attributes(this.#child(node, body)))]
      case OPCODE.getattr:
        return [attributesReply(this.#attributes(node))]
      case OPCODE.setattr:
        return [attributesReply(this.#attributes(await this.#change(node, body)))]
      case OPCODE.readlink:
        if (node.type !== 'symlink') throw new Refused(ERRNO.EINVAL)
        return [node.target]
      case OPCODE.open:
        await this.#open(node)
        return [openReply()]
      case OPCODE.opendir:
        asFolder(node)
        return [openReply()]
      case OPCODE.readdir:
        return [list(asFolder(node), readOf(body))]
      case OPCODE.read: {
        const { offset, size } = readOf(body)
        const volume = await this.#open(node)
        return [await volume.read(offset, Math.min(size, MAX_WRITE))]
      }
      case OPCODE.write:
        return [await this.#write(node, body)]
      case OPCODE.fsync:
        if (node.type === 'file') await node.volume?.flush()
        return []
      case OPCODE.fallocate:
        await this.#allocate(node, body)
        return []
      case OPCODE.lseek:
        return [u64(await this.#seek(node, body))]
      case OPCODE.release:
      case OPCODE.releasedir:
      case OPCODE.flush:
      case OPCODE.fsyncdir:
        return []
      default:
        throw new Refused(TREE_CHANGES.has(opcode) ? ERRNO.EPERM : ERRNO.ENOSYS)
    }
  }

  #init(body: Buffer): Buffer[] {
    if (body.readUInt32LE(0) < VERSION.major) throw new Refused(ERRNO.EINVAL)
    const readahead = Math.min(this.#options.readahead, body.readUInt32LE(8))
    return [initReply(readahead, body.readUInt32LE(12))]
  }

  #child(node: Node, body: Buffer): Node {
    const end = body.indexOf(0)
    if (end > 255) throw new Refused(ERRNO.ENAMETOOLONG)
    const child = asFolder(node).children.get(body.toString('latin1', 0, Math.max(end, 0)))
    if (child === undefined) throw new Refused(ERRNO.ENOENT)
    return child
  }

  #attributes(node: Node): Attributes {
    const { id, mode, mtime } = node
    const owner = { uid: this.#uid, gid: this.#gid }
    if (node.type === 'folder') {
      const folders = [...node.children.values()].filter(({ type }) => type === 'folder').length
      const links = 2 + folders
      return { ...owner, node: id, mode: S_IFDIR | mode, size: 0, blocks: 0, mtime, links }
    }
    const isLink = node.type === 'symlink'
    const size = isLink ? node.target.byteLength : (node.volume?.size ?? node.size)
    const type = isLink ? S_IFLNK : S_IFREG
    const blocks = Math.ceil(size / 512)
    return { ...owner, node: id, mode: type | mode, size, blocks, mtime, links: 1 }
  }

  async #open(node: Node): Promise<Volume> {
    const file = asFile(node)
    file.volume ??= await file.open()
    return file.volume
  }

  async #writable(node: Node): Promise<Volume> {
    const volume = await this.#open(node)
    if (this.#options.isReadOnly) throw new Refused(ERRNO.EROFS)
    node.mtime = BigInt(Date.now()) * 1_000_000n
    return volume
  }

  async #write(node: Node, body: Buffer): Promise<Buffer> {
    const offset = sizeOf(body.readBigUInt64LE(8))
    const size = body.readUInt32LE(16)
    const bytes = body.subarray(40, 40 + size)
    if (bytes.byteLength !== size || size > MAX_WRITE) throw new Refused(ERRNO.EINVAL)
    const volume = await this.#writable(node)
    if (offset + size > volume.size) await volume.resize(offset + size)
    await volume.write(offset, bytes)
    const answer = Buffer.alloc(8)
    answer.writeUInt32LE(size, 0)
    return answer
  }

  async #change(node: Node, body: Buffer): Promise<Node> {
    const valid = body.readUInt32LE(0)
    const isChange =
      (valid & (SETATTR.size | SETATTR.mode | SETATTR.mtime | SETATTR.mtimeNow)) !== 0
    if (isChange && this.#options.isReadOnly) throw new Refused(ERRNO.EROFS)
    if ((valid & SETATTR.size) !== 0) {
      const size = sizeOf(body.readBigUInt64LE(16))
      await (await this.#writable(node)).resize(size)
    }
    if ((valid & SETATTR.mode) !== 0) node.mode = body.readUInt32LE(68) & 0o7777
    if ((valid & SETATTR.mtimeNow) !== 0) node.mtime = BigInt(Date.now()) * 1_000_000n
    else if ((valid & SETATTR.mtime) !== 0) {
      node.mtime = body.readBigInt64LE(40) * 1_000_000_000n + BigInt(body.readUInt32LE(60))
    }
    return node
  }

  async #allocate(node: Node, body: Buffer): Promise<void> {
    const [offset, length] = [sizeOf(body.readBigUInt64LE(8)), sizeOf(body.readBigUInt64LE(16))]
    const mode = body.readUInt32LE(24)
    const { keepSize, punchHole, zeroRange } = FALLOCATE
    if ((mode & ~(keepSize | punchHole | zeroRange)) !== 0) throw new Refused(ERRNO.EOPNOTSUPP)
    const volume = await this.#writable(node)
    const end = sizeOf(BigInt(offset) + BigInt(length))
    if ((mode & keepSize) === 0 && end > volume.size) await volume.resize(end)
    if ((mode & (punchHole | zeroRange)) === 0 || offset >= volume.size) return
    await volume.zero(offset, Math.min(end, volume.size) - offset)
  }

  async #seek(node: Node, body: Buffer): Promise<number> {
    const volume = await this.#open(node)
    const start = sizeOf(body.readBigUInt64LE(8))
    const whence = body.readUInt32LE(16)
    if (whence !== SEEK.data && whence !== SEEK.hole) throw new Refused(ERRNO.EINVAL)
    if (start >= volume.size) throw new Refused(ERRNO.ENXIO)
    for (let at = start; at < volume.size;) {
      for (const { length, isHole } of await volume.stretches(at, SEEK_AT_ONCE)) {
        if (isHole === (whence === SEEK.hole)) return at
        at += length
      }
    }
    if (whence === SEEK.hole) return volume.size
    throw new Refused(ERRNO.ENXIO)
  }
}

const SEEK_AT_ONCE = 64 * 1_048_576
/** Requests are read on so many threads: the kernel has the next one ready while one is looked at. */
const READERS = 2
const SMALL_FRAME = 8_192
const FRAME_BYTES = MAX_WRITE + HEADER_BYTES + 4_096

/** Carries frames between a mounted /dev/fuse and its file system, until it is unmounted. */
export class FuseDevice {
  readonly #fd: number
  readonly #fileSystem: FuseFileSystem
  readonly #buffers: Buffer[] = []
  readonly #readers: Promise<unknown>
  #isClosed = false

  /** `fd`: opened for reading and writing, and mounted already. Owned from here on. */
  constructor(fd: number, fileSystem: FuseFileSystem) {
    this.#fd = fd
    this.#fileSystem = fileSystem
    this.#readers = Promise.all(Array.from({ length: READERS }, () => this.#serve()))
  }

  /** Settles when it was unmounted, or closed. */
  async ended(): Promise<void> {
    await this.#readers
    this.close()
  }

  /** What was mounted answers nothing any more. A reader that waits ends when it is unmounted. */
  close(): void {
    if (this.#isClosed) return
    this.#isClosed = true
    closeSync(this.#fd)
  }

  async #serve(): Promise<void> {
    while (!this.#isClosed) {
      const buffer = this.#buffers.pop() ?? Buffer.allocUnsafeSlow(FRAME_BYTES)
      const count = await this.#read(buffer)
      if (count === null) return
      // Only what is written needs the buffer until it is answered, which may take long.
      const isSmall = count <= SMALL_FRAME
      const frame = isSmall ? Buffer.from(buffer.subarray(0, count)) : buffer.subarray(0, count)
      if (isSmall) this.#buffers.push(buffer)
      void this.#fileSystem.answer(frame).then((answer) => {
        if (answer !== null) this.#reply(answer)
        if (!isSmall) this.#buffers.push(buffer)
      })
    }
  }

  /** null: unmounted. */
  async #read(buffer: Buffer): Promise<number | null> {
    for (;;) {
      const result = await new Promise<number | NodeJS.ErrnoException>((resolve) => {
        read(this.#fd, buffer, 0, buffer.byteLength, null, (error, count) =>
          resolve(error ?? count)
        )
      })
      if (typeof result === 'number') return result
      // A request that was withdrawn before it was read, or a signal.
      if (result.code === 'ENOENT' || result.code === 'EINTR' || result.code === 'EAGAIN') continue
      return null
    }
  }

  /** The kernel takes an answer only whole, in one call. */
  #reply(answer: Buffer[]): void {
    if (this.#isClosed) return
    try {
      writevSync(this.#fd, answer)
    } catch {
      // ENOENT: whoever asked was killed meanwhile. Others: unmounted, which the reader notices.
    }
  }
}

function list(folder: FolderNode, { offset, size }: { offset: number; size: number }): Buffer {
  const names: [Buffer, Node][] = [
    [Buffer.from('.'), folder],
    [Buffer.from('..'), folder.parent ?? folder],
    ...[...folder.children.values()].map((child): [Buffer, Node] => [child.name, child])
  ]
  const parts: Buffer[] = []
  let left = size
  for (let n = offset; n < names.length; n++) {
    const [name, node] = names[n] ?? names[0] ?? [Buffer.alloc(0), folder]
    const type = node.type === 'folder' ? S_IFDIR : node.type === 'file' ? S_IFREG : S_IFLNK
    const entry = directoryEntry(name, node.id, n + 1, type)
    if (entry.byteLength > left) break
    left -= entry.byteLength
    parts.push(entry)
  }
  return Buffer.concat(parts)
}

function readOf(body: Buffer): { offset: number; size: number } {
  return { offset: sizeOf(body.readBigUInt64LE(8)), size: body.readUInt32LE(16) }
}

/** Largest file of a parcel: 256 TiB. */
function sizeOf(value: bigint): number {
  if (value > 2n ** 48n) throw new Refused(ERRNO.EFBIG)
  return Number(value)
}

function asFolder(node: Node): FolderNode {
  if (node.type !== 'folder') throw new Refused(ERRNO.ENOTDIR)
  return node
}

function asFile(node: Node): FileNode {
  if (node.type === 'folder') throw new Refused(ERRNO.EISDIR)
  if (node.type === 'symlink') throw new Refused(ERRNO.EINVAL)
  return node
}

function errnoOf(error: unknown): number {
  if (error instanceof Refused) return error.errno
  const code = error instanceof Error && 'code' in error ? error.code : ''
  if (code === 'ENOSPC' || code === 'EDQUOT' || code === 'DISK_FULL') return ERRNO.ENOSPC
  return ERRNO.EIO
}

function u64(value: number): Buffer {
  const bytes = Buffer.alloc(8)
  bytes.writeBigUInt64LE(BigInt(value))
  return bytes
}
