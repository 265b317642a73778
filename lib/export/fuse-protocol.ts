/*
 * The protocol of /dev/fuse, version 7.31, as far as it is spoken here. All numbers are in the
 * host's byte order; every host that we run on is little-endian.
 * https://www.kernel.org/doc/html/latest/filesystems/fuse.html, include/uapi/linux/fuse.h
 */

export const VERSION = { major: 7, minor: 31 } as const
export const HEADER_BYTES = 40
const REPLY_BYTES = 16
/** Most that is read or written by one request: also the most that the kernel knows. */
export const MAX_WRITE = 1_048_576

export const OPCODE = {
  lookup: 1,
  forget: 2,
  getattr: 3,
  setattr: 4,
  readlink: 5,
  symlink: 6,
  mknod: 8,
  mkdir: 9,
  unlink: 10,
  rmdir: 11,
  rename: 12,
  link: 13,
  open: 14,
  read: 15,
  write: 16,
  statfs: 17,
  release: 18,
  fsync: 20,
  getxattr: 22,
  flush: 25,
  init: 26,
  opendir: 27,
  readdir: 28,
  releasedir: 29,
  fsyncdir: 30,
  create: 35,
  interrupt: 36,
  destroy: 38,
  batchForget: 42,
  fallocate: 43,
  rename2: 45,
  lseek: 46
} as const

export const INIT_FLAG = {
  asyncRead: 1 << 0,
  bigWrites: 1 << 5,
  parallelDirops: 1 << 18,
  maxPages: 1 << 22
} as const
export const SETATTR = { mode: 1, size: 8, mtime: 32, mtimeNow: 256 } as const
export const FOPEN_KEEP_CACHE = 2
export const FALLOCATE = { keepSize: 1, punchHole: 2, zeroRange: 16 } as const
export const RENAME_NOREPLACE = 1
export const SEEK = { data: 3, hole: 4 } as const

export const ERRNO = {
  EPERM: 1,
  ENOENT: 2,
  EINTR: 4,
  EIO: 5,
  ENXIO: 6,
  EBADF: 9,
  EEXIST: 17,
  ENOTDIR: 20,
  EISDIR: 21,
  EINVAL: 22,
  ENFILE: 23,
  EFBIG: 27,
  ENOSPC: 28,
  EROFS: 30,
  ENAMETOOLONG: 36,
  ENOSYS: 38,
  ENOTEMPTY: 39,
  EOPNOTSUPP: 95
} as const

/** Fewest bytes behind the header of each request that has some. */
export const LEAST: ReadonlyMap<number, number> = new Map([
  [OPCODE.lookup, 2],
  [OPCODE.symlink, 4],
  [OPCODE.mknod, 18],
  [OPCODE.mkdir, 10],
  [OPCODE.unlink, 2],
  [OPCODE.rmdir, 2],
  [OPCODE.rename, 12],
  [OPCODE.rename2, 20],
  [OPCODE.create, 18],
  [OPCODE.releasedir, 8],
  [OPCODE.setattr, 88],
  [OPCODE.open, 8],
  [OPCODE.read, 40],
  [OPCODE.write, 40],
  [OPCODE.init, 16],
  [OPCODE.interrupt, 8],
  [OPCODE.fallocate, 32],
  [OPCODE.lseek, 24],
  [OPCODE.readdir, 40]
])

export interface Request {
  opcode: number
  unique: bigint
  node: bigint
  body: Buffer
}

/** null: too short, or its length is not what it says. */
export function readRequest(frame: Buffer): Request | null {
  if (frame.byteLength < HEADER_BYTES || frame.readUInt32LE(0) !== frame.byteLength) return null
  return {
    opcode: frame.readUInt32LE(4),
    unique: frame.readBigUInt64LE(8),
    node: frame.readBigUInt64LE(16),
    body: frame.subarray(HEADER_BYTES)
  }
}

/** Names at the end of a request, each with a zero behind it, as bytes. */
export function namesOf(body: Buffer, offset: number): Buffer[] {
  const names: Buffer[] = []
  for (let at = offset; at < body.byteLength;) {
    const end = body.indexOf(0, at)
    names.push(body.subarray(at, end < 0 ? body.byteLength : end))
    if (end < 0) break
    at = end + 1
  }
  return names
}

/** An answer in parts, to be written at once. `error` positive. */
export function reply(unique: bigint, error: number, parts: readonly Buffer[] = []): Buffer[] {
  const head = Buffer.alloc(REPLY_BYTES)
  head.writeUInt32LE(
    parts.reduce((sum, part) => sum + part.byteLength, REPLY_BYTES),
    0
  )
  head.writeInt32LE(-error, 4)
  head.writeBigUInt64LE(unique, 8)
  return [head, ...parts]
}

/** What the file system can do; `readahead` in bytes. */
export function initReply(readahead: number, offered: number): Buffer {
  const { asyncRead, bigWrites, parallelDirops, maxPages } = INIT_FLAG
  const body = Buffer.alloc(64)
  body.writeUInt32LE(VERSION.major, 0)
  body.writeUInt32LE(VERSION.minor, 4)
  body.writeUInt32LE(readahead, 8)
  body.writeUInt32LE((offered & (asyncRead | bigWrites | parallelDirops | maxPages)) >>> 0, 12)
  body.writeUInt16LE(64, 16)
  body.writeUInt16LE(48, 18)
  body.writeUInt32LE(MAX_WRITE, 20)
  body.writeUInt32LE(1, 24)
  body.writeUInt16LE(MAX_WRITE / 4_096, 28)
  return body
}

/** What `stat` shows. `mode` with the type of the file; `mtime` in ns since 1970. */
export interface Attributes {
  node: bigint
  mode: number
  size: number
  /** Units of 512 bytes. */
  blocks: number
  mtime: bigint
  links: number
  uid: number
  gid: number
}

const ATTRIBUTE_BYTES = 88
/** Nobody but us changes anything, so the kernel may believe what it knows for so long, s. */
const VALID = 3_600n

export function attributesReply(attributes: Attributes): Buffer {
  const body = Buffer.alloc(16 + ATTRIBUTE_BYTES)
  body.writeBigUInt64LE(VALID, 0)
  writeAttributes(body.subarray(16), attributes)
  return body
}

export function entryReply(attributes: Attributes): Buffer {
  const body = Buffer.alloc(40 + ATTRIBUTE_BYTES)
  body.writeBigUInt64LE(attributes.node, 0)
  body.writeBigUInt64LE(VALID, 16)
  body.writeBigUInt64LE(VALID, 24)
  writeAttributes(body.subarray(40), attributes)
  return body
}

/** `handle` comes with every request about what was opened. */
export function openReply(handle = 0n): Buffer {
  const body = Buffer.alloc(16)
  body.writeBigUInt64LE(handle, 0)
  body.writeUInt32LE(FOPEN_KEEP_CACHE, 8)
  return body
}

/** `free` and `total` in bytes. */
export function statfsReply({ total, free }: { total: number; free: number }): Buffer {
  const body = Buffer.alloc(80)
  const block = 4_096
  body.writeBigUInt64LE(BigInt(Math.floor(total / block)), 0)
  body.writeBigUInt64LE(BigInt(Math.floor(free / block)), 8)
  body.writeBigUInt64LE(BigInt(Math.floor(free / block)), 16)
  body.writeUInt32LE(block, 40)
  body.writeUInt32LE(255, 44)
  body.writeUInt32LE(block, 48)
  return body
}

/** One name of a folder; `next` is where a listing goes on behind it, `type` that of a mode. */
export function directoryEntry(name: Buffer, node: bigint, next: number, mode: number): Buffer {
  const length = Math.ceil((24 + name.byteLength) / 8) * 8
  const entry = Buffer.alloc(length)
  entry.writeBigUInt64LE(node, 0)
  entry.writeBigUInt64LE(BigInt(next), 8)
  entry.writeUInt32LE(name.byteLength, 16)
  entry.writeUInt32LE(mode >> 12, 20)
  name.copy(entry, 24)
  return entry
}

function writeAttributes(into: Buffer, attributes: Attributes): void {
  const { node, mode, size, blocks, mtime, links, uid, gid } = attributes
  const at = mtime < 0n ? 0n : mtime
  const [seconds, rest] = [at / 1_000_000_000n, Number(at % 1_000_000_000n)]
  into.writeBigUInt64LE(node, 0)
  into.writeBigUInt64LE(BigInt(size), 8)
  into.writeBigUInt64LE(BigInt(blocks), 16)
  for (const [n, offset] of [24, 32, 40].entries()) {
    into.writeBigUInt64LE(seconds, offset)
    into.writeUInt32LE(rest, 48 + 4 * n)
  }
  into.writeUInt32LE(mode, 60)
  into.writeUInt32LE(links, 64)
  into.writeUInt32LE(uid, 68)
  into.writeUInt32LE(gid, 72)
  into.writeUInt32LE(4_096, 80)
}
