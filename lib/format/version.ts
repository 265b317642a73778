import { Reader, Writer } from './codec.js'
import { readExtensions, readFormat, writeExtensions, type Extension } from './extension.js'
import {
  CHUNKING,
  HASH_BYTES,
  KEY_BYTES,
  MAX_CORES,
  MAX_DRIVER_BYTES,
  MAX_FACTS,
  MAX_NAME_BYTES,
  MAX_PARENTS,
  MAX_TABLE_SIZE,
  MAX_TEXT,
  type Chunking
} from './limits.js'

/** A state of a core that a signed record vouches for. */
export interface CoreHead {
  key: Buffer
  fork: number
  length: number
  treeHash: Buffer
}

/**
 * A version of a parcel. Its id is the hash of these bytes; the author signs them. Parents are
 * version ids. `table` is the file table, itself stored as chunks under an id tree; `cores` are
 * all `data` cores that hold anything of it.
 */
export interface Version {
  /** How the file table and the roots are cut; the record's format number. */
  chunking: Chunking
  parcel: Buffer
  author: Buffer
  parents: Buffer[]
  /** Milliseconds since 1970 by the author's clock; for people, it decides nothing. */
  created: number
  driver: string
  facts: Record<string, string>
  table: { size: number; root: Buffer | null }
  /** Numbers for people: regular files, their bytes, bytes that this version added to the log. */
  totals: { files: number; bytes: number; stored: number }
  message: string
  /** The lease under which it was made; 0 without one. */
  leaseEpoch: number
  cores: CoreHead[]
  extensions: Extension[]
}

const NO_ROOT = Buffer.alloc(HASH_BYTES)
/** Optional extension: the name of the branch that a version is on, in UTF-8. */
const BRANCH = 1
/** Optional extension: how many things in the folder could not be stored, a varint. */
const LEFT_OUT = 2

/** The branch that a version is on; '' is the one without a name. What is no name counts as none. */
export function branchOf({ extensions }: Pick<Version, 'extensions'>): string {
  const bytes = extensions.find(({ tag }) => tag === BRANCH)?.value ?? Buffer.alloc(0)
  const text = bytes.toString('utf8')
  return bytes.byteLength <= MAX_NAME_BYTES && Buffer.from(text).equals(bytes) ? text : ''
}

/** How many things in the folder the version lacks: 0 when it has all. What is no number counts as 0. */
export function leftOutOf({ extensions }: Pick<Version, 'extensions'>): number {
  const bytes = extensions.find(({ tag }) => tag === LEFT_OUT)?.value
  if (bytes === undefined) return 0
  try {
    const reader = new Reader(bytes, 'number of what was left out')
    const count = reader.varint()
    reader.end()
    return count
  } catch {
    return 0
  }
}

/** The extensions of a version on a branch, which lacks so many things of its folder. */
export function versionExtensions(branch: string, leftOut: number): Extension[] {
  const name = { tag: BRANCH, critical: false, value: Buffer.from(branch) }
  const value = Buffer.from(new Writer(8).varint(leftOut).bytes())
  const lacks = { tag: LEFT_OUT, critical: false, value }
  return [...(branch === '' ? [] : [name]), ...(leftOut === 0 ? [] : [lacks])]
}

/** The canonical bytes: equal versions have equal bytes. */
export function encodeVersion(version: Version): Buffer {
  const writer = new Writer(512)
  writer.varint(version.chunking)
  writer.fixed(version.parcel, HASH_BYTES).fixed(version.author, KEY_BYTES)
  const parents = version.parents.toSorted((a, b) => Buffer.compare(a, b))
  writer.list(parents, (parent) => writer.fixed(parent, HASH_BYTES))
  writer.varint(version.created).text(version.driver, MAX_DRIVER_BYTES)
  const facts = Object.entries(version.facts).toSorted(([a], [b]) => byBytes(a, b))
  writer.list(facts, ([name, value]) => writer.text(name, MAX_TEXT).text(value, MAX_TEXT))
  writer.varint(version.table.size).fixed(version.table.root ?? NO_ROOT, HASH_BYTES)
  const { files, bytes, stored } = version.totals
  writer.varint(files).varint(bytes).varint(stored)
  writer.text(version.message, MAX_TEXT).varint(version.leaseEpoch)
  writer.list(version.cores, (core) => writeCoreHead(writer, core))
  writeExtensions(writer, version.extensions)
  return Buffer.from(writer.bytes())
}

export function decodeVersion(bytes: Uint8Array): Version {
  const reader = new Reader(bytes, 'version record')
  const chunking = readFormat(reader, CHUNKING, 'version') === 1 ? 1 : CHUNKING
  const parcel = reader.fixed(HASH_BYTES)
  const author = reader.fixed(KEY_BYTES)
  const parents = reader.list(MAX_PARENTS, () => reader.fixed(HASH_BYTES))
  if (!ascending(parents)) reader.fail('its parents are out of order')
  const created = reader.varint()
  const driver = reader.text(MAX_DRIVER_BYTES)
  let last: string | null = null
  const pairs = reader.list(MAX_FACTS, () => {
    const name = reader.text(MAX_TEXT)
    if (last !== null && byBytes(last, name) >= 0) reader.fail('its facts are out of order')
    last = name
    return [name, reader.text(MAX_TEXT)] as const
  })
  // Not by assignment, which would lose a fact named '__proto__'.
  const facts = Object.fromEntries(pairs)
  const size = reader.varint(MAX_TABLE_SIZE)
  const root = reader.fixed(HASH_BYTES)
  const table = { size, root: root.equals(NO_ROOT) ? null : root }
  const totals = { files: reader.varint(), bytes: reader.varint(), stored: reader.varint() }
  const message = reader.text(MAX_TEXT)
  const leaseEpoch = reader.varint()
  const cores = reader.list(MAX_CORES, () => readCoreHead(reader))
  const extensions = readExtensions(reader, 'version')
  reader.end()
  return {
    chunking,
    parcel,
    author,
    parents,
    created,
    driver,
    facts,
    table,
    totals,
    message,
    leaseEpoch,
    cores,
    extensions
  }
}

export function writeCoreHead(writer: Writer, head: CoreHead): void {
  writer.fixed(head.key, KEY_BYTES).varint(head.fork).varint(head.length)
  writer.fixed(head.treeHash, HASH_BYTES)
}

export function readCoreHead(reader: Reader): CoreHead {
  return {
    key: reader.fixed(KEY_BYTES),
    fork: reader.varint(),
    length: reader.varint(2 ** 40),
    treeHash: reader.fixed(HASH_BYTES)
  }
}

export function ascending(hashes: readonly Buffer[]): boolean {
  return hashes.every((hash, i) => i === 0 || Buffer.compare(hashes[i - 1] ?? hash, hash) < 0)
}

function byBytes(a: string, b: string): number {
  return Buffer.compare(Buffer.from(a), Buffer.from(b))
}
