import * as fc from 'fast-check'
import type { EpochKeys } from '../../lib/format/epoch-keys.js'
import type { Recovery, RecoveryAnswer } from '../../lib/format/recovery.js'
import {
  ROLES,
  type ControlBody,
  type ControlRecord,
  type MemberRole
} from '../../lib/format/control-record.js'
import type { CoreHeader } from '../../lib/format/core-header.js'
import type { Entry, Place } from '../../lib/format/entry.js'
import type { Extension } from '../../lib/format/extension.js'
import type { Chunking } from '../../lib/format/limits.js'
import type { FileEntry, FileRole } from '../../lib/format/file-table.js'
import type { MetaRecord, Places } from '../../lib/format/meta-record.js'
import type { Pack } from '../../lib/format/pack.js'
import type { IdPage, PlacePage } from '../../lib/format/page.js'
import type { JoinReply, JoinRequest } from '../../lib/format/pairing.js'
import type { CoreHead, Version } from '../../lib/format/version.js'
import type { Hello, SignedRecord } from '../../lib/format/wire.js'

/** Values of every format, for properties that hold for all of them. */

export function bytes(min: number, max = min): fc.Arbitrary<Buffer> {
  return fc.uint8Array({ minLength: min, maxLength: max }).map((array) => Buffer.from(array))
}

export function record<T>(model: { [K in keyof T]: fc.Arbitrary<T[K]> }): fc.Arbitrary<T> {
  return fc.record(model, { noNullPrototype: true })
}

/** 32 bytes that are not all zeros, which stand for "none". */
const hash = bytes(32).filter((value) => value.some((byte) => byte !== 0))
const key = bytes(32)
const signature = bytes(64)
const number = fc.oneof(fc.maxSafeNat(), fc.nat(300))
const text = fc.string({ unit: 'binary', maxLength: 12 })
const mask = fc.integer({ min: 1, max: 0xffff })
const flag = fc.boolean()
const none = fc.constant(null)

function some<T>(item: fc.Arbitrary<T>, max = 4): fc.Arbitrary<T[]> {
  return fc.array(item, { maxLength: max })
}

/** Ids in the order in which records hold them, each once. */
const parents = fc
  .uniqueArray(hash, { maxLength: 4, selector: (id) => id.toString('hex') })
  .map((ids) => ids.toSorted((a, b) => Buffer.compare(a, b)))

const extensions: fc.Arbitrary<Extension[]> = fc
  .uniqueArray(record({ tag: number, critical: fc.constant(false), value: bytes(0, 20) }), {
    maxLength: 3,
    selector: ({ tag }) => tag
  })
  .map((list) => list.toSorted((a, b) => a.tag - b.tag))

const head: fc.Arbitrary<CoreHead> = record({
  key,
  fork: number,
  length: fc.integer({ min: 0, max: 2 ** 40 }),
  treeHash: bytes(32)
})

const place: fc.Arbitrary<Place> = record({
  core: fc.integer({ min: 0, max: 65_535 }),
  block: fc.integer({ min: 0, max: 2 ** 40 }),
  ordinal: fc.integer({ min: 0, max: 16_383 })
})

const holes = fc.oneof(fc.constant(0), mask)
export const entry: fc.Arbitrary<Entry> = fc.oneof(
  record({ kind: fc.constant('hole' as const) }),
  record({ kind: fc.constant('zero' as const), holes }),
  record({ kind: fc.constant('chunk' as const), id: hash, holes }),
  record({
    kind: fc.constant('patched' as const),
    base: hash,
    patches: fc.array(record({ mask, id: hash }), { minLength: 1, maxLength: 4 })
  })
)

const innerLevel = fc.constantFrom(1 as const, 2 as const, 3 as const, 4 as const, 5 as const)
const leafLevel = fc.constant(0 as const)
const many = { minLength: 1, maxLength: 6 }

export const idPage: fc.Arbitrary<IdPage> = fc.oneof(
  record({ level: leafLevel, entries: fc.array(entry, many) }),
  record({ level: innerLevel, children: fc.array(fc.oneof(none, hash), many) })
)
export const placePage: fc.Arbitrary<PlacePage> = fc.oneof(
  record({ level: leafLevel, idPage: place, items: fc.array(some(place, 5), many) }),
  record({ level: innerLevel, idPage: place, children: fc.array(fc.oneof(none, place), many) })
)

export const pack: fc.Arbitrary<Pack> = record<Pack>({
  kind: fc.constantFrom('chunks' as const, 'pages' as const),
  codec: fc.constantFrom('none' as const, 'zstd' as const),
  items: fc.array(record({ id: hash, length: fc.nat(300) }), many),
  frame: bytes(0, 40)
}).map((made) => {
  const raw = made.items.reduce((sum, { length }) => sum + length, 0)
  return made.codec === 'none' ? { ...made, frame: Buffer.alloc(raw, 7) } : made
})

export const coreHeader: fc.Arbitrary<CoreHeader> = record({
  kind: fc.constantFrom('control' as const, 'meta' as const, 'data' as const),
  parcel: key,
  host: key,
  incarnation: bytes(16)
})

const common = {
  path: bytes(0, 30),
  mode: fc.integer({ min: 0, max: 0o7777 }),
  mtime: fc.bigInt({ min: -62_135_596_800_000_000_000n, max: 2n ** 66n }),
  extensions
}
const chunking = fc.constantFrom<Chunking[]>(1, 2)
const roles: FileRole[] = ['file', 'config', 'disk', 'nvram', 'memory', 'device', 'log']
export const fileEntry: fc.Arbitrary<FileEntry> = fc.oneof(
  record({
    ...common,
    type: fc.constant('file' as const),
    role: fc.constantFrom(...roles),
    chunking,
    size: fc.integer({ min: 0, max: 2 ** 48 }),
    root: fc.oneof(none, hash)
  }),
  record({ ...common, type: fc.constant('folder' as const) }),
  record({ ...common, type: fc.constant('symlink' as const), target: bytes(0, 30) })
)

export const version: fc.Arbitrary<Version> = record({
  chunking,
  parcel: key,
  author: key,
  parents,
  created: number,
  driver: fc.string({ maxLength: 10 }),
  facts: fc.dictionary(text, text, { maxKeys: 4, noNullPrototype: true }),
  table: record({ size: fc.integer({ min: 0, max: 2 ** 34 }), root: fc.oneof(none, hash) }),
  totals: record({ files: number, bytes: number, stored: number }),
  message: text,
  leaseEpoch: number,
  cores: some(head, 3),
  extensions
})

const places: fc.Arbitrary<Places> = record({
  version: hash,
  cores: some(key),
  table: fc.oneof(none, place),
  roots: record({
    size: fc.integer({ min: 0, max: 2 ** 34 }),
    root: fc.oneof(none, hash),
    place: fc.oneof(none, place)
  })
})
const trace = record({
  version: hash,
  files: fc.array(bytes(1, 20), { minLength: 1, maxLength: 3 }),
  touched: some(
    record({
      file: fc.constant(0),
      chunk: fc.nat(2 ** 30),
      pages: fc.integer({ min: 1, max: 0xffff })
    })
  ),
  blocks: some(
    record({
      core: fc.nat(100),
      block: fc.nat(2 ** 30),
      size: fc.nat(2 ** 20),
      isPacked: fc.boolean()
    })
  ),
  first: fc.constant(0)
})
export const metaRecord: fc.Arbitrary<Exclude<MetaRecord, { type: 'unknown' }>> = fc.oneof(
  record({ type: fc.constant('facts' as const), bytes: bytes(0, 60), signature }),
  record({ type: fc.constant('version' as const), bytes: bytes(0, 60), signature }),
  record({ type: fc.constant('places' as const), places }),
  record({ type: fc.constant('trace' as const), trace }),
  record({ type: fc.constant('name' as const), name: text }),
  record({
    type: fc.constant('tag' as const),
    tag: record({ name: text, version: fc.oneof(none, hash), number: fc.nat(2 ** 30) })
  }),
  record({
    type: fc.constant('running' as const),
    running: record({ number, since: fc.oneof(none, number) })
  }),
  record({
    type: fc.constant('moved' as const),
    moved: fc
      .tuple(places, fc.array(head, { minLength: 1, maxLength: 3 }))
      .map(([where, heads]) => ({
        places: { ...where, cores: [...where.cores, ...heads.map((each) => each.key)] },
        heads
      }))
  })
)

const memberRoles: MemberRole[] = ['owner', 'runner', 'reader', 'vault']
const range = fc
  .tuple(fc.nat(2 ** 30), fc.integer({ min: 1, max: 1_000 }))
  .map(([start, count]) => ({ start, end: start + count }))
const body: fc.Arbitrary<ControlBody> = fc.oneof(
  record({ type: fc.constant('genesis' as const), salt: bytes(32) }),
  record({
    type: fc.constant('member' as const),
    host: key,
    role: fc.constantFrom(...memberRoles)
  }),
  record({ type: fc.constant('revoke' as const), host: key, cuts: some(head) }),
  record({
    type: fc.constant('epoch' as const),
    number,
    sealed: some(record({ host: key, keys: bytes(0, 30) }))
  }),
  record({
    type: fc.constant('cores' as const),
    incarnation: record({ id: bytes(16), control: key, meta: key, data: some(key) })
  }),
  record({
    type: fc.constant('receipt' as const),
    version: hash,
    cores: some(record({ head, blocks: fc.oneof(none, bytes(0, 20)) }))
  }),
  record({ type: fc.constant('pin' as const), version: hash, pinned: flag }),
  record({ type: fc.constant('drop' as const), core: key, ranges: some(range) }),
  record({ type: fc.constant('lease' as const), number, holder: key, version: hash }),
  record({ type: fc.constant('recovery' as const), topic: hash, box: bytes(0, 60) }),
  record({
    type: fc.constant('forked' as const),
    core: key,
    start: number,
    signature: bytes(0, 128),
    head,
    repeated: head
  }),
  record({
    type: fc.constant('unknown' as const),
    tag: fc.oneof(fc.constant(0), fc.integer({ min: 12, max: 255 })),
    bytes: bytes(0, 30)
  })
)
export const controlRecord: fc.Arbitrary<ControlRecord> = record({
  parcel: key,
  author: key,
  sequence: number,
  epoch: number,
  parents,
  created: number,
  body,
  extensions
})

export const joinRequest: fc.Arbitrary<JoinRequest> = record({
  host: key,
  name: text,
  signature
})
export const joinReply: fc.Arbitrary<JoinReply> = record({
  parcel: key,
  name: text,
  driver: fc.string({ maxLength: 10 }),
  inviter: key,
  inviterName: text,
  role: fc.constantFrom(...ROLES),
  epoch: number,
  record: fc.option(key),
  epochKey: fc.option(key),
  controlKey: key,
  announcements: fc.array(record({ bytes: bytes(0, 60), signature }), { maxLength: 16 })
})

export const epochKeys: fc.Arbitrary<EpochKeys[]> = fc.array(
  record({ epoch: number, record: fc.option(key), epochKey: fc.option(key), controlKey: key }),
  { maxLength: 8 }
)

export const recovery: fc.Arbitrary<Recovery> = record({
  name: text,
  driver: fc.string({ maxLength: 10 }),
  epochs: epochKeys.filter((epochs) => epochs.length > 0)
})
export const recoveryAnswer: fc.Arbitrary<RecoveryAnswer> = record({
  parcel: hash,
  record: record({ bytes: bytes(0, 60), signature }),
  announcements: fc.array(record({ bytes: bytes(0, 60), signature }), { maxLength: 16 })
})

export const hello: fc.Arbitrary<Hello> = record({ min: number, max: number, software: text })
export const announcements: fc.Arbitrary<SignedRecord[]> = some(
  record({ bytes: bytes(0, 60), signature })
)
export const heads: fc.Arbitrary<Buffer[]> = some(hash)
