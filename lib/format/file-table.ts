import { ParcelError } from '../errors.js'
import { Reader, Writer } from './codec.js'
import { readExtensions, writeExtensions, type Extension } from './extension.js'
import { HASH_BYTES, MAX_FILE_SIZE, MAX_PATH_BYTES, type Chunking } from './limits.js'

export type FileRole = 'file' | 'config' | 'disk' | 'nvram' | 'memory' | 'device' | 'log'

interface Common {
  /** Raw bytes, '/'-separated, relative to the parcel: names need not be UTF-8. */
  path: Buffer
  /** Permission bits, 0–0o7777. */
  mode: number
  /** Nanoseconds since 1970. */
  mtime: bigint
  extensions: Extension[]
}

/**
 * One line of a version's file table. `root` is the hash of the top page of the file's id tree,
 * null when it has none (empty, or one hole); `chunking` is how it is cut and named.
 */
export type FileEntry =
  | (Common & {
      type: 'file'
      role: FileRole
      chunking: Chunking
      size: number
      root: Buffer | null
    })
  | (Common & { type: 'folder' })
  | (Common & { type: 'symlink'; target: Buffer })

const TYPES = ['file', 'folder', 'symlink'] as const
const ROLES: readonly FileRole[] = ['file', 'config', 'disk', 'nvram', 'memory', 'device', 'log']
const NO_ROOT = Buffer.alloc(HASH_BYTES)
const NS = 1_000_000_000n
/** mtimes before 1970 are written from this base, the year 1 or so. */
const EPOCH_SHIFT = 62_135_596_800n
const MAX_SECONDS = 2 ** 40
/** A file system can hold times beyond the format's; they are written as its first or last. */
const LAST_TIME = BigInt(MAX_SECONDS) * NS + NS - 1n

/** Software of before 2026-11-27 wrote it for files that are called as what every object has, such as `constructor`. */
const NO_ROLE = 255

export function encodeFileEntry(entry: FileEntry): Buffer {
  const writer = new Writer(96 + entry.path.byteLength)
  writer.u8(TYPES.indexOf(entry.type)).sized(entry.path).varint(entry.mode)
  const shifted = entry.mtime + EPOCH_SHIFT * NS
  const time = shifted < 0n ? 0n : shifted > LAST_TIME ? LAST_TIME : shifted
  writer.varint(Number(time / NS)).varint(Number(time % NS))
  if (entry.type === 'file') {
    const role = ROLES.indexOf(entry.role)
    if (role < 0) throw new RangeError('a file of no role')
    writer.u8(role).u8(entry.chunking).varint(entry.size)
    writer.fixed(entry.root ?? NO_ROOT, HASH_BYTES)
  } else if (entry.type === 'symlink') {
    writer.sized(entry.target)
  }
  writeExtensions(writer, entry.extensions)
  return Buffer.from(new Writer(writer.length + 4).sized(writer.bytes()).bytes())
}

/** Reads one entry; the caller checks order and parents with `TableChecker`. */
export function decodeFileEntry(bytes: Uint8Array): FileEntry {
  const reader = new Reader(bytes, 'file table')
  const type = TYPES[reader.u8()] ?? reader.fail('an unknown type of file')
  const path = reader.sized(MAX_PATH_BYTES)
  const mode = reader.varint(0o7777)
  const seconds = BigInt(reader.varint(MAX_SECONDS)) - EPOCH_SHIFT
  const mtime = seconds * NS + BigInt(reader.varint(999_999_999))
  if (type === 'file') {
    const byte = reader.u8()
    const role =
      byte === NO_ROLE ? 'file' : (ROLES[byte] ?? reader.fail('an unknown role of a file'))
    const chunking = readChunking(reader)
    const size = reader.varint(MAX_FILE_SIZE)
    const root = reader.fixed(HASH_BYTES)
    const extensions = readExtensions(reader, 'file table')
    reader.end()
    const known = root.equals(NO_ROOT) ? null : root
    return { type, path, mode, mtime, extensions, role, chunking, size, root: known }
  }
  const target = type === 'symlink' ? reader.sized(MAX_PATH_BYTES) : null
  const extensions = readExtensions(reader, 'file table')
  reader.end()
  if (type === 'folder' || target === null) {
    return { type: 'folder', path, mode, mtime, extensions }
  }
  return { type, path, mode, mtime, extensions, target }
}

function readChunking(reader: Reader): Chunking {
  const chunking = reader.u8()
  return chunking === 1 || chunking === 2 ? chunking : reader.fail(`unknown chunking ${chunking}`)
}

/**
 * Refuses every table that could write outside the folder it is unpacked into: a path that is
 * absolute, empty, or has an empty, '.' or '..' part or a NUL; one that is out of order or there
 * twice; one whose parent is not a folder of the same table (so none goes through a symlink).
 */
export class TableChecker {
  #last: Buffer | null = null
  /** The folders that the last path is in, outermost first. */
  readonly #folders: Buffer[] = []

  check(entry: FileEntry): void {
    const { path } = entry
    for (const part of path.toString('latin1').split('/')) {
      if (part === '' || part === '.' || part === '..' || part.includes('\0')) {
        throw refused(path, 'such a path could lead out of the parcel')
      }
    }
    if (this.#last !== null && comparePaths(this.#last, path) >= 0) {
      throw refused(path, 'the table is out of order')
    }
    this.#last = path
    const parent = path.subarray(0, Math.max(path.lastIndexOf(0x2f), 0))
    while (this.#folders.length > 0 && !isWithin(path, this.#folders.at(-1))) this.#folders.pop()
    if (!parent.equals(this.#folders.at(-1) ?? Buffer.alloc(0))) {
      throw refused(path, 'its parent is not a folder of this version')
    }
    if (entry.type === 'folder') this.#folders.push(path)
  }
}

/** The order of a table: part by part, so that a folder's contents follow it at once. */
export function comparePaths(a: Buffer, b: Buffer): number {
  const shared = Math.min(a.byteLength, b.byteLength)
  for (let i = 0; i < shared; i++) {
    if (a[i] === b[i]) continue
    return weight(a[i]) - weight(b[i])
  }
  return a.byteLength - b.byteLength
}

function weight(byte: number | undefined): number {
  return byte === 0x2f ? 0 : (byte ?? 0) + 1
}

function isWithin(path: Buffer, folder: Buffer | undefined): boolean {
  const length = folder?.byteLength ?? 0
  return path[length] === 0x2f && path.subarray(0, length).equals(folder ?? path)
}

/** A path as text for a person: what is not UTF-8 or would move the cursor is escaped. */
export function printable(path: Uint8Array): string {
  const text = Buffer.from(path).toString('utf8')
  return text.replaceAll(/[\p{C}\uFFFD]/gu, (c) => `\\u{${(c.codePointAt(0) ?? 0).toString(16)}}`)
}

function refused(path: Buffer, why: string): ParcelError {
  return new ParcelError('INTEGRITY', `refused path "${printable(path)}" in the file table: ${why}`)
}
