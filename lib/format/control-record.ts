import { Reader, Writer } from './codec.js'
import { readExtensions, readFormat, writeExtensions, type Extension } from './extension.js'
import {
  FORMAT,
  HASH_BYTES,
  KEY_BYTES,
  KEY_ID_BYTES,
  MAX_CORES,
  MAX_MEMBERS,
  MAX_CORE_SIGNATURE,
  MAX_PARENTS,
  MAX_ANNOUNCED
} from './limits.js'
import { MAX_RECOVERY } from './recovery.js'
import { ascending, readCoreHead, writeCoreHead, type CoreHead } from './version.js'

export type MemberRole = (typeof ROLES)[number]

/** What one host keeps of a core, in a receipt: bit n of `blocks` is block n; null is all of them. */
export interface HeldCore {
  head: CoreHead
  blocks: Buffer | null
}

/** The cores of one incarnation of one host. A `data` core may be followed by others when space is reclaimed. */
export interface Incarnation {
  id: Buffer
  control: Buffer
  meta: Buffer
  data: Buffer[]
}

export type ControlBody =
  /** The first record; its id is the parcel's. The author is the first owner. */
  | { type: 'genesis'; salt: Buffer }
  | { type: 'member'; host: Buffer; role: MemberRole }
  /** Ends a host's membership. What it wrote past the cuts never happened. */
  | { type: 'revoke'; host: Buffer; cuts: CoreHead[] }
  /** A new epoch, its keys sealed to each remaining member. */
  | { type: 'epoch'; number: number; sealed: { host: Buffer; keys: Buffer }[] }
  | { type: 'cores'; incarnation: Incarnation }
  /** "All of this version is durable here." */
  | { type: 'receipt'; version: Buffer; cores: HeldCore[] }
  | { type: 'pin'; version: Buffer; pinned: boolean }
  /** "I no longer need these blocks": [start, end) pairs of a core. */
  | { type: 'drop'; core: Buffer; ranges: { start: number; end: number }[] }
  | { type: 'lease'; number: number; holder: Buffer; version: Buffer }
  /**
   * For its author alone, should it lose all but its identity: where it looks for the others then,
   * and a sealed box with what it needs to be a member again.
   */
  | { type: 'recovery'; topic: Buffer; box: Buffer }
  /**
   * "My log `core` has two pasts: what is before `start` is common to both, and `signature` is what I
   * have signed of that. `head` is of the past that counts; of the other one my versions stand once
   * more in the log of `repeated`, before its length."
   */
  | {
      type: 'forked'
      core: Buffer
      start: number
      signature: Buffer
      head: CoreHead
      repeated: CoreHead
    }
  | { type: 'unknown'; tag: number; bytes: Buffer }

/**
 * A record of a `control` core. The records of all hosts form a DAG: `parents` are the ids of the
 * records that were heads where this one was written. The author's identity key signs the bytes.
 */
export interface ControlRecord {
  /** All zeros in a genesis. */
  parcel: Buffer
  author: Buffer
  /** Position among the author's records of this parcel, over all incarnations, from 0. */
  sequence: number
  epoch: number
  parents: Buffer[]
  created: number
  body: ControlBody
  extensions: Extension[]
}

const TYPES = [
  'genesis',
  'member',
  'revoke',
  'epoch',
  'cores',
  'receipt',
  'pin',
  'drop',
  'lease',
  'recovery',
  'forked'
] as const
/** By their numbers, from 1. */
export const ROLES = ['owner', 'runner', 'reader', 'vault'] as const
const MAX_BITMAP = 2 ** 20
const MAX_SEALED = 1_024
const MAX_BODY = 2 ** 21

export function encodeControlRecord(record: ControlRecord): Buffer {
  const writer = new Writer(256)
  writer.varint(FORMAT)
  writer.fixed(record.parcel, HASH_BYTES).fixed(record.author, KEY_BYTES)
  writer.varint(record.sequence).varint(record.epoch)
  const parents = record.parents.toSorted((a, b) => Buffer.compare(a, b))
  writer.list(parents, (parent) => writer.fixed(parent, HASH_BYTES))
  writer.varint(record.created)
  const { body } = record
  writer.u8(body.type === 'unknown' ? body.tag : TYPES.indexOf(body.type) + 1)
  const inner = new Writer(256)
  writeBody(inner, body)
  writer.sized(inner.bytes())
  writeExtensions(writer, record.extensions)
  return Buffer.from(writer.bytes())
}

export function decodeControlRecord(bytes: Uint8Array): ControlRecord {
  const reader = new Reader(bytes, 'control record')
  readFormat(reader, FORMAT, 'control record')
  const parcel = reader.fixed(HASH_BYTES)
  const author = reader.fixed(KEY_BYTES)
  const sequence = reader.varint()
  const epoch = reader.varint()
  const parents = reader.list(MAX_PARENTS, () => reader.fixed(HASH_BYTES))
  if (!ascending(parents)) reader.fail('its parents are out of order')
  const created = reader.varint()
  const tag = reader.u8()
  const body = readBody(tag, reader.sized(MAX_BODY))
  const extensions = readExtensions(reader, 'control record')
  reader.end()
  return { parcel, author, sequence, epoch, parents, created, body, extensions }
}

function writeBody(writer: Writer, body: ControlBody): void {
  switch (body.type) {
    case 'genesis':
      writer.fixed(body.salt, HASH_BYTES)
      return
    case 'member':
      writer.fixed(body.host, KEY_BYTES).u8(ROLES.indexOf(body.role) + 1)
      return
    case 'revoke':
      writer.fixed(body.host, KEY_BYTES)
      writer.list(body.cuts, (cut) => writeCoreHead(writer, cut))
      return
    case 'epoch':
      writer.varint(body.number)
      writer.list(body.sealed, ({ host, keys }) => writer.fixed(host, KEY_BYTES).sized(keys))
      return
    case 'cores': {
      const { id, control, meta, data } = body.incarnation
      writer.fixed(id, KEY_ID_BYTES).fixed(control, KEY_BYTES).fixed(meta, KEY_BYTES)
      writer.list(data, (key) => writer.fixed(key, KEY_BYTES))
      return
    }
    case 'receipt':
      writer.fixed(body.version, HASH_BYTES)
      writer.list(body.cores, ({ head, blocks }) => {
        writeCoreHead(writer, head)
        writer.u8(blocks === null ? 0 : 1)
        if (blocks !== null) writer.sized(blocks)
      })
      return
    case 'pin':
      writer.fixed(body.version, HASH_BYTES).u8(body.pinned ? 1 : 0)
      return
    case 'drop':
      writer.fixed(body.core, KEY_BYTES)
      writer.list(body.ranges, ({ start, end }) => writer.varint(start).varint(end))
      return
    case 'lease':
      writer.varint(body.number).fixed(body.holder, KEY_BYTES).fixed(body.version, HASH_BYTES)
      return
    case 'recovery':
      writer.fixed(body.topic, HASH_BYTES).sized(body.box)
      return
    case 'forked':
      writer.fixed(body.core, KEY_BYTES).varint(body.start).sized(body.signature)
      writeCoreHead(writer, body.head)
      writeCoreHead(writer, body.repeated)
      return
    case 'unknown':
      writer.raw(body.bytes)
  }
}

function readBody(tag: number, bytes: Buffer): ControlBody {
  const reader = new Reader(bytes, 'control record')
  const type = TYPES[tag - 1]
  if (type === undefined) return { type: 'unknown', tag, bytes }
  const body = readKnownBody(type, reader)
  reader.end()
  return body
}

function readKnownBody(type: (typeof TYPES)[number], reader: Reader): ControlBody {
  const hash = (): Buffer => reader.fixed(HASH_BYTES)
  const key = (): Buffer => reader.fixed(KEY_BYTES)
  const flag = (): boolean => {
    const value = reader.u8()
    return value > 1 ? reader.fail('a flag is neither 0 nor 1') : value === 1
  }
  switch (type) {
    case 'genesis':
      return { type, salt: hash() }
    case 'member':
      return { type, host: key(), role: ROLES[reader.u8() - 1] ?? reader.fail('unknown role') }
    case 'revoke':
      return { type, host: key(), cuts: reader.list(MAX_CORES, () => readCoreHead(reader)) }
    case 'epoch': {
      const number = reader.varint()
      const read = () => ({ host: key(), keys: reader.sized(MAX_SEALED) })
      return { type, number, sealed: reader.list(MAX_MEMBERS, read) }
    }
    case 'cores': {
      const id = reader.fixed(KEY_ID_BYTES)
      const [control, meta] = [key(), key()]
      return { type, incarnation: { id, control, meta, data: reader.list(MAX_ANNOUNCED, key) } }
    }
    case 'receipt': {
      const version = hash()
      const read = (): HeldCore => ({
        head: readCoreHead(reader),
        blocks: flag() ? reader.sized(MAX_BITMAP) : null
      })
      return { type, version, cores: reader.list(MAX_CORES, read) }
    }
    case 'pin':
      return { type, version: hash(), pinned: flag() }
    case 'drop': {
      const core = key()
      const read = () => {
        const start = reader.varint()
        const end = reader.varint()
        return end > start ? { start, end } : reader.fail('an empty range')
      }
      return { type, core, ranges: reader.list(MAX_CORES, read) }
    }
    case 'lease':
      return { type, number: reader.varint(), holder: key(), version: hash() }
    case 'recovery':
      return { type, topic: hash(), box: reader.sized(MAX_RECOVERY) }
    case 'forked': {
      const core = key()
      const start = reader.varint()
      const signature = reader.sized(MAX_CORE_SIGNATURE)
      const head = readCoreHead(reader)
      return { type, core, start, signature, head, repeated: readCoreHead(reader) }
    }
  }
}
