import { Reader, Writer } from './codec.js'
import { readMask, readPlace, writePlace, type Place } from './entry.js'
import {
  chunkCount,
  HASH_BYTES,
  KEY_BYTES,
  MAX_BLOCK,
  MAX_CORES,
  MAX_FILE_SIZE,
  MAX_NAME_BYTES,
  MAX_PATH_BYTES,
  MAX_TABLE_SIZE,
  MAX_TEXT,
  MAX_TRACE_BLOCKS,
  MAX_TRACE_CHUNKS,
  MAX_TRACE_FILES,
  SIGNATURE_BYTES
} from './limits.js'
import { readCoreHead, writeCoreHead, type CoreHead } from './version.js'

/** A chunked stream with where to begin reading it; `place` is that of its top place page. */
export interface StreamRef {
  size: number
  root: Buffer | null
  place: Place | null
}

/**
 * Where a version's items are. `cores` is the core table that the places' core numbers index.
 * `roots` is a stream of one optional place for each regular file of the table, in its order: that
 * file's top place page. A later record for the same version replaces an earlier one.
 */
export interface Places {
  version: Buffer
  cores: Buffer[]
  table: Place | null
  roots: StreamRef
}

/**
 * Places that a host has given to the items of a version, whoever made it, instead of those that they
 * had: of the cores in the table only those are read that `heads` names, with the state in which they
 * hold all of it.
 */
export interface Moved {
  places: Places
  heads: CoreHead[]
}

/** A block of a core of a version's core table, that a resume wants. */
export interface TraceBlock {
  core: number
  block: number
  /** Bytes. */
  size: number
  /** Whether it was packed for that: other things are not in it. */
  isPacked: boolean
}

/**
 * What a machine used of a version's predecessor from its resume until it had settled, and where
 * that is in this version: a hint of what to fetch first.
 */
export interface Trace {
  version: Buffer
  /** Paths of the files that `touched` numbers. */
  files: Buffer[]
  /** Pages of chunks, as masks, in the order of their first use. */
  touched: { file: number; chunk: number; pages: number }[]
  /** In the order in which they are wanted, each once. */
  blocks: TraceBlock[]
  /** How many of them, from the beginning, the machine had used when it had hardly started. */
  first: number
}

/** A name for a version. */
export interface Tag {
  name: string
  /** null: the name is taken away. */
  version: Buffer | null
  /** Of all that is said of a name the greatest counts; of equal ones that of the greatest host's key. */
  number: number
}

/** A host's machine runs, or does not: a notice for people, which decides nothing. */
export interface Running {
  /** Of a host's notices the one with the greatest number counts. */
  number: number
  /** Milliseconds since 1970 by that host's clock; null: it does not run. */
  since: number | null
}

/** A record of a `meta` core. Unknown types are skipped. */
export type MetaRecord =
  | { type: 'version'; bytes: Buffer; signature: Buffer }
  | { type: 'places'; places: Places }
  | { type: 'trace'; trace: Trace }
  | { type: 'name'; name: string }
  /** What a host says of itself, signed by its identity; a later one replaces it. */
  | { type: 'facts'; bytes: Buffer; signature: Buffer }
  | { type: 'tag'; tag: Tag }
  | { type: 'running'; running: Running }
  | { type: 'moved'; moved: Moved }
  | { type: 'unknown' }

const VERSION = 1
const PLACES = 2
const NAME = 3
const TRACE = 4
const FACTS = 5
const TAG = 6
const RUNNING = 7
const MOVED = 8
export const MAX_TAG_NUMBER = 2 ** 40
const MAX_HOST_FACTS = 64
const MAX_FACTS_BYTES = 65_536
const NO_ROOT = Buffer.alloc(HASH_BYTES)

export function encodeMetaRecord(record: Exclude<MetaRecord, { type: 'unknown' }>): Buffer {
  const writer = new Writer(512)
  switch (record.type) {
    case 'version':
      writer.u8(VERSION).sized(record.bytes).fixed(record.signature, SIGNATURE_BYTES)
      break
    case 'places':
      writer.u8(PLACES)
      writePlaces(writer, record.places)
      break
    case 'trace':
      writer.u8(TRACE)
      writeTrace(writer, record.trace)
      break
    case 'name':
      writer.u8(NAME).text(record.name, MAX_NAME_BYTES)
      break
    case 'facts':
      writer.u8(FACTS).sized(record.bytes).fixed(record.signature, SIGNATURE_BYTES)
      break
    case 'tag': {
      const { name, version, number } = record.tag
      writer
        .u8(TAG)
        .text(name, MAX_NAME_BYTES)
        .varint(number)
        .u8(version === null ? 0 : 1)
      if (version !== null) writer.fixed(version, HASH_BYTES)
      break
    }
    case 'running': {
      const { number, since } = record.running
      writer
        .u8(RUNNING)
        .varint(number)
        .u8(since === null ? 0 : 1)
      if (since !== null) writer.varint(since)
      break
    }
    case 'moved':
      writer.u8(MOVED)
      writePlaces(writer, record.moved.places)
      writer.list(record.moved.heads, (head) => writeCoreHead(writer, head))
  }
  return Buffer.from(writer.bytes())
}

export function decodeMetaRecord(bytes: Uint8Array): MetaRecord {
  const reader = new Reader(bytes, 'meta record')
  const type = reader.u8()
  let record: MetaRecord
  if (type === VERSION) {
    const body = reader.sized(reader.left)
    record = { type: 'version', bytes: body, signature: reader.fixed(SIGNATURE_BYTES) }
  } else if (type === PLACES) {
    record = { type: 'places', places: readPlaces(reader) }
  } else if (type === TRACE) {
    record = { type: 'trace', trace: readTrace(reader) }
  } else if (type === NAME) {
    record = { type: 'name', name: reader.text(MAX_NAME_BYTES) }
  } else if (type === FACTS) {
    const body = reader.sized(MAX_FACTS_BYTES)
    record = { type: 'facts', bytes: body, signature: reader.fixed(SIGNATURE_BYTES) }
  } else if (type === TAG) {
    record = { type: 'tag', tag: readTag(reader) }
  } else if (type === RUNNING) {
    const number = reader.varint()
    const flag = reader.u8()
    if (flag > 1) reader.fail('a flag is neither 0 nor 1')
    record = { type: 'running', running: { number, since: flag === 0 ? null : reader.varint() } }
  } else if (type === MOVED) {
    const places = readPlaces(reader)
    const heads = reader.list(MAX_CORES, () => readCoreHead(reader))
    if (heads.length === 0) reader.fail('it names no core')
    const isOther = heads.some(({ key }) => !places.cores.some((core) => core.equals(key)))
    if (isOther) reader.fail('it names a core that is not in its table')
    record = { type: 'moved', moved: { places, heads } }
  } else {
    return { type: 'unknown' }
  }
  reader.end()
  return record
}

function readTag(reader: Reader): Tag {
  const name = reader.text(MAX_NAME_BYTES)
  const number = reader.varint(MAX_TAG_NUMBER)
  const flag = reader.u8()
  if (flag > 1) reader.fail('a flag is neither 0 nor 1')
  return { name, version: flag === 0 ? null : reader.fixed(HASH_BYTES), number }
}

/** Facts of a host, by name, and when it said so, ms since 1970. */
export interface SaidFacts {
  created: number
  facts: Readonly<Record<string, string>>
}

/** What a host signs of its facts: bound to one parcel. */
export function encodeFacts(parcel: Buffer, { created, facts }: SaidFacts): Buffer {
  const writer = new Writer(2_048).fixed(parcel, HASH_BYTES).varint(created)
  const names = Object.keys(facts).toSorted()
  writer.list(names, (name) => writer.text(name, MAX_NAME_BYTES).text(facts[name] ?? '', MAX_TEXT))
  return Buffer.from(writer.bytes())
}

/** Throws INTEGRITY, also for facts that were said in another parcel. */
export function decodeFacts(parcel: Buffer, bytes: Uint8Array): SaidFacts {
  const reader = new Reader(bytes, 'facts of a host')
  if (!reader.fixed(HASH_BYTES).equals(parcel)) reader.fail('they are of another parcel')
  const created = reader.varint()
  const pairs = reader.list(MAX_HOST_FACTS, () => [
    reader.text(MAX_NAME_BYTES),
    reader.text(MAX_TEXT)
  ])
  reader.end()
  return { created, facts: Object.fromEntries(pairs) }
}

function writeTrace(writer: Writer, { version, files, touched, blocks, first }: Trace): void {
  writer.fixed(version, HASH_BYTES)
  writer.list(files, (path) => writer.sized(path))
  writer.list(touched, ({ file, chunk, pages }) => writer.varint(file).varint(chunk).u16(pages))
  writer.list(blocks, ({ core, block, size, isPacked }) =>
    writer
      .u8(isPacked ? 1 : 0)
      .varint(core)
      .varint(block)
      .varint(size)
  )
  writer.varint(first)
}

function readTrace(reader: Reader): Trace {
  const version = reader.fixed(HASH_BYTES)
  const files = reader.list(MAX_TRACE_FILES, () => reader.sized(MAX_PATH_BYTES))
  const touched = reader.list(MAX_TRACE_CHUNKS, () => ({
    file: reader.varint(Math.max(files.length - 1, 0)),
    chunk: reader.varint(chunkCount(MAX_FILE_SIZE)),
    pages: readMask(reader)
  }))
  if (files.length === 0 && touched.length > 0) reader.fail('chunks of no file')
  const blocks = reader.list(MAX_TRACE_BLOCKS, () => {
    const flag = reader.u8()
    if (flag > 1) reader.fail('a flag is neither 0 nor 1')
    const [core, block] = [reader.varint(MAX_CORES - 1), reader.varint(2 ** 40)]
    const size = reader.varint(MAX_BLOCK)
    return { core, block, size, isPacked: flag === 1 }
  })
  const first = reader.varint(blocks.length)
  return { version, files, touched, blocks, first }
}

function writePlaces(writer: Writer, { version, cores, table, roots }: Places): void {
  writer.fixed(version, HASH_BYTES)
  writer.list(cores, (key) => writer.fixed(key, KEY_BYTES))
  writeOptionalPlace(writer, table)
  writer.varint(roots.size).fixed(roots.root ?? NO_ROOT, HASH_BYTES)
  writeOptionalPlace(writer, roots.place)
}

function readPlaces(reader: Reader): Places {
  const version = reader.fixed(HASH_BYTES)
  const cores = reader.list(MAX_CORES, () => reader.fixed(KEY_BYTES))
  const table = readOptionalPlace(reader)
  const size = reader.varint(MAX_TABLE_SIZE)
  const root = reader.fixed(HASH_BYTES)
  const place = readOptionalPlace(reader)
  return { version, cores, table, roots: { size, root: root.equals(NO_ROOT) ? null : root, place } }
}

export function writeOptionalPlace(writer: Writer, place: Place | null): void {
  writer.u8(place === null ? 0 : 1)
  if (place !== null) writePlace(writer, place)
}

export function readOptionalPlace(reader: Reader): Place | null {
  const flag = reader.u8()
  if (flag > 1) reader.fail('a flag is neither 0 nor 1')
  return flag === 0 ? null : readPlace(reader)
}
