import type { FolderTree, Node } from '../image/folder-tree.js'
import type { Volume } from '../image/volume.js'
import {
  asFile,
  asFolder,
  FuseFolders,
  Refused,
  S_IFDIR,
  S_IFLNK,
  S_IFREG,
  type TreeKeeper
} from './fuse-folders.js'
import {
  attributesReply,
  entryReply,
  ERRNO,
  FALLOCATE,
  initReply,
  LEAST,
  MAX_WRITE,
  OPCODE,
  openReply,
  namesOf,
  readRequest,
  reply,
  SEEK,
  SETATTR,
  statfsReply,
  VERSION,
  type Attributes,
  type Request
} from './fuse-protocol.js'

export interface FuseOptions {
  /**
   * Bytes that the kernel may read ahead of what is asked for: 0 for a guest's memory, whose pages
   * are wanted in no order.
   */
  readahead: number
  isReadOnly: boolean
  /** How folders are changed; null: they are as they are. */
  changes: TreeKeeper | null
  /** Bytes of the file system on which what is written ends up. */
  space: () => { total: number; free: number }
}

/**
 * Answers the kernel's requests for one mounted tree. `answer` knows nothing of /dev/fuse: it is
 * given a frame and says what to reply, so that frames can come from anywhere.
 */
export class FuseFileSystem {
  readonly #tree: FolderTree
  readonly #folders: FuseFolders
  readonly #options: FuseOptions
  /** Requests under way, by number: each may be interrupted. */
  readonly #pending = new Map<bigint, (answer: Buffer[]) => void>()
  readonly #uid = process.getuid?.() ?? 0
  readonly #gid = process.getgid?.() ?? 0
  #isAbandoned = false

  constructor(tree: FolderTree, options: FuseOptions) {
    this.#tree = tree
    this.#folders = new FuseFolders(tree, options)
    this.#options = options
  }

  /** How many requests wait for an answer. */
  get pending(): number {
    return this.#pending.size
  }

  /**
   * The reply to a frame, in parts; null when it wants none. Never throws. `onDone`: nothing looks at
   * the frame any more, which can be long after its reply, where that was an interruption.
   */
  async answer(frame: Buffer, onDone: () => void = () => {}): Promise<Buffer[] | null> {
    const request = readRequest(frame)
    const isCarriedOut = request !== null && this.#isToBeCarriedOut(request)
    if (isCarriedOut) return this.#answer(request, onDone)
    onDone()
    return request === null ? null : this.#answerAtOnce(request)
  }

  #isToBeCarriedOut({ opcode, unique, body }: Request): boolean {
    return (
      !WITHOUT_ANSWER.has(opcode) &&
      body.byteLength >= (LEAST.get(opcode) ?? 0) &&
      !this.#isAbandoned &&
      // A request that is there twice cannot come from a kernel.
      !this.#pending.has(unique)
    )
  }

  #answerAtOnce({ opcode, unique, body }: Request): Buffer[] | null {
    if (opcode === OPCODE.forget || opcode === OPCODE.batchForget) return null
    if (body.byteLength < (LEAST.get(opcode) ?? 0)) return reply(unique, ERRNO.EINVAL)
    if (opcode === OPCODE.interrupt) {
      const target = body.readBigUInt64LE(0)
      this.#pending.get(target)?.(reply(target, ERRNO.EINTR))
      return null
    }
    return reply(unique, this.#isAbandoned ? ERRNO.EIO : ERRNO.EINVAL)
  }

  #answer(request: Request, onDone: () => void): Promise<Buffer[]> {
    const { unique } = request
    return new Promise((resolve) => {
      const settle = (answer: Buffer[]): void => {
        if (this.#pending.get(unique) !== settle) return
        this.#pending.delete(unique)
        resolve(answer)
      }
      this.#pending.set(unique, settle)
      this.#carryOut(request)
        .finally(onDone)
        .then(
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
    if (opcode === OPCODE.releasedir) {
      // Also of one that was removed meanwhile.
      this.#folders.close(body.readBigUInt64LE(0))
      return []
    }
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
        asFile(node).openings++
        return [openReply()]
      case OPCODE.release:
        await this.#folders.release(asFile(node))
        return []
      case OPCODE.opendir:
        return [openReply(this.#folders.open(asFolder(node)))]
      case OPCODE.readdir:
        return [
          this.#folders.list(asFolder(node), { handle: body.readBigUInt64LE(0), ...readOf(body) })
        ]
      case OPCODE.create: {
        const file = asFile(this.#folders.make(node, opcode, body))
        file.openings++
        return [entryReply(this.#attributes(file)), openReply()]
      }
      case OPCODE.mknod:
      case OPCODE.mkdir:
      case OPCODE.symlink:
        return [entryReply(this.#attributes(this.#folders.make(node, opcode, body)))]
      case OPCODE.unlink:
      case OPCODE.rmdir:
        await this.#folders.remove(node, opcode, body)
        return []
      case OPCODE.rename:
      case OPCODE.rename2:
        await this.#folders.move(node, opcode, body)
        return []
      case OPCODE.read: {
        const { offset, size } = readOf(body)
        const volume = volumeOf(node)
        return [await volume.read(offset, Math.min(size, MAX_WRITE))]
      }
      case OPCODE.write:
        return [await this.#write(node, body)]
      case OPCODE.fsync:
        if (node.type === 'file') await node.volume?.flush()
        await this.#options.changes?.flush()
        return []
      case OPCODE.fsyncdir:
        await this.#options.changes?.flush()
        return []
      case OPCODE.fallocate:
        await this.#allocate(node, body)
        return []
      case OPCODE.lseek:
        return [u64(await this.#seek(node, body))]
      case OPCODE.flush:
        return []
      case OPCODE.link:
        // A version has no files with two names.
        throw new Refused(ERRNO.EPERM)
      default:
        throw new Refused(ERRNO.ENOSYS)
    }
  }

  #init(body: Buffer): Buffer[] {
    if (body.readUInt32LE(0) < VERSION.major) throw new Refused(ERRNO.EINVAL)
    const readahead = Math.min(this.#options.readahead, body.readUInt32LE(8))
    return [initReply(readahead, body.readUInt32LE(12))]
  }

  #child(node: Node, body: Buffer): Node {
    const [name = Buffer.alloc(0)] = namesOf(body, 0)
    if (name.byteLength > 255) throw new Refused(ERRNO.ENAMETOOLONG)
    const child = asFolder(node).children.get(name.toString('latin1'))
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
    const size = isLink ? node.target.byteLength : (node.volume?.size ?? 0)
    const type = isLink ? S_IFLNK : S_IFREG
    const blocks = Math.ceil(size / 512)
    return { ...owner, node: id, mode: type | mode, size, blocks, mtime, links: 1 }
  }

  #writable(node: Node): Volume {
    const volume = volumeOf(node)
    if (this.#options.isReadOnly) throw new Refused(ERRNO.EROFS)
    node.mtime = BigInt(Date.now()) * 1_000_000n
    return volume
  }

  async #write(node: Node, body: Buffer): Promise<Buffer> {
    const offset = sizeOf(body.readBigUInt64LE(8))
    const size = body.readUInt32LE(16)
    const bytes = body.subarray(40, 40 + size)
    if (bytes.byteLength !== size || size > MAX_WRITE) throw new Refused(ERRNO.EINVAL)
    const volume = this.#writable(node)
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
      await this.#writable(node).resize(size)
    }
    let { mode, mtime } = node
    if ((valid & SETATTR.mode) !== 0) mode = body.readUInt32LE(68) & 0o7777
    if ((valid & SETATTR.mtimeNow) !== 0) mtime = BigInt(Date.now()) * 1_000_000n
    else if ((valid & SETATTR.mtime) !== 0) {
      mtime = body.readBigInt64LE(40) * 1_000_000_000n + BigInt(body.readUInt32LE(60))
    }
    this.#folders.setAttributes(node, { mode, mtime })
    return node
  }

  async #allocate(node: Node, body: Buffer): Promise<void> {
    const [offset, length] = [sizeOf(body.readBigUInt64LE(8)), sizeOf(body.readBigUInt64LE(16))]
    const mode = body.readUInt32LE(24)
    const { keepSize, punchHole, zeroRange } = FALLOCATE
    if ((mode & ~(keepSize | punchHole | zeroRange)) !== 0) throw new Refused(ERRNO.EOPNOTSUPP)
    const volume = this.#writable(node)
    const end = sizeOf(BigInt(offset) + BigInt(length))
    if ((mode & keepSize) === 0 && end > volume.size) await volume.resize(end)
    if ((mode & (punchHole | zeroRange)) === 0 || offset >= volume.size) return
    await volume.zero(offset, Math.min(end, volume.size) - offset)
  }

  async #seek(node: Node, body: Buffer): Promise<number> {
    const volume = volumeOf(node)
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

/** Requests that are answered at once, or not at all. */
const WITHOUT_ANSWER: ReadonlySet<number> = new Set([
  OPCODE.forget,
  OPCODE.batchForget,
  OPCODE.interrupt
])
const SEEK_AT_ONCE = 64 * 1_048_576
function readOf(body: Buffer): { offset: number; size: number } {
  return { offset: sizeOf(body.readBigUInt64LE(8)), size: body.readUInt32LE(16) }
}

/** Largest file of a parcel: 256 TiB. */
function sizeOf(value: bigint): number {
  if (value > 2n ** 48n) throw new Refused(ERRNO.EFBIG)
  return Number(value)
}

function volumeOf(node: Node): Volume {
  return asFile(node).volume ?? fail(ERRNO.EIO)
}

function fail(errno: number): never {
  throw new Refused(errno)
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
