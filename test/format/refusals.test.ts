import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { Reader, Writer } from '../../lib/format/codec.js'
import { decodeControlRecord, encodeControlRecord } from '../../lib/format/control-record.js'
import { readExtensions, writeExtensions, type Extension } from '../../lib/format/extension.js'
import { decodeFileEntry } from '../../lib/format/file-table.js'
import { decodePack } from '../../lib/format/pack.js'
import { decodeIdPage, decodePlacePage } from '../../lib/format/page.js'
import { decodeVersion, encodeVersion } from '../../lib/format/version.js'
import { decodeAnnouncements, decodeHeads, negotiate } from '../../lib/format/wire.js'
import * as any from './arbitrary.js'
import { refuses } from './refuses.js'

const HASHES = [Buffer.alloc(32, 1), Buffer.alloc(32, 2)] as const
const MAX = Number.MAX_SAFE_INTEGER

/** The fields of a version up to its parents. */
function versionStart(): Writer {
  return new Writer().varint(1).fixed(HASHES[0], 32).fixed(HASHES[1], 32)
}

function control(tag: number, body: Writer): Buffer {
  const writer = versionStart()
  writer.varint(0).varint(0).varint(0).varint(0).u8(tag).sized(body.bytes()).varint(0)
  return Buffer.from(writer.bytes())
}

test('parents out of order or twice are INTEGRITY', () => {
  for (const [first, second] of [
    [HASHES[1], HASHES[0]],
    [HASHES[0], HASHES[0]]
  ] as const) {
    const parents = (writer: Writer): Buffer => writer.varint(2).raw(first).raw(second).bytes()
    refuses('INTEGRITY', () => decodeVersion(parents(versionStart())))
    refuses('INTEGRITY', () => decodeControlRecord(parents(versionStart().varint(0).varint(0))))
  }
})

test('facts out of order or twice are INTEGRITY', () => {
  for (const [first, second] of [
    ['b', 'a'],
    ['a', 'a'],
    ['aa', 'a']
  ] as const) {
    const writer = versionStart().varint(0).varint(0).text('', 0).varint(2)
    for (const name of [first, second]) writer.text(name, 9).text('', 0)
    refuses('INTEGRITY', () => decodeVersion(writer.bytes()))
  }
})

test('a fact may have any name, even that of an object’s inner parts', () => {
  fc.assert(
    fc.property(any.version, (version) => {
      const facts = Object.fromEntries([
        ['__proto__', 'a'],
        ['constructor', 'b'],
        ['10', 'c'],
        ['9', 'd']
      ])
      const bytes = encodeVersion({ ...version, facts })
      assert.deepEqual(decodeVersion(bytes).facts, facts)
      assert.deepEqual(encodeVersion(decodeVersion(bytes)), bytes)
    }),
    { numRuns: 5 }
  )
})

test('a version that could not be read back is not written', () => {
  fc.assert(
    fc.property(any.version, (version) => {
      const long = '€'.repeat(1_366)
      assert.throws(() => encodeVersion({ ...version, message: long }), RangeError)
      assert.throws(() => encodeVersion({ ...version, facts: { long } }), RangeError)
      assert.throws(() => encodeVersion({ ...version, driver: 'a'.repeat(33) }), RangeError)
      const message = long.slice(1)
      assert.equal(decodeVersion(encodeVersion({ ...version, message })).message, message)
    }),
    { numRuns: 5 }
  )
})

test('extensions: an optional one is kept, a critical one is NEWER_FORMAT', () => {
  const unknown = (critical: boolean): Extension[] => [
    { tag: 7, critical, value: Buffer.from('from a later version') }
  ]
  fc.assert(
    fc.property(any.version, any.controlRecord, (version, record) => {
      const kept = encodeVersion({ ...version, extensions: unknown(false) })
      assert.deepEqual(decodeVersion(kept).extensions, unknown(false))
      assert.deepEqual(encodeVersion(decodeVersion(kept)), kept)
      const critical = encodeVersion({ ...version, extensions: unknown(true) })
      refuses('NEWER_FORMAT', () => decodeVersion(critical))
      const control = encodeControlRecord({ ...record, extensions: unknown(true) })
      refuses('NEWER_FORMAT', () => decodeControlRecord(control))
    }),
    { numRuns: 20 }
  )
})

test('extensions out of order, twice or with another flag are INTEGRITY', () => {
  const read = (...fields: number[]): Extension[] =>
    readExtensions(new Reader(Buffer.from(fields), 'test'), 'test')
  refuses('INTEGRITY', () => read(2, 5, 0, 0, 4, 0, 0))
  refuses('INTEGRITY', () => read(2, 5, 0, 0, 5, 0, 0))
  refuses('INTEGRITY', () => read(1, 5, 2, 0))
  const writer = new Writer()
  const [five, four] = [5, 4].map((tag) => ({ tag, critical: false, value: Buffer.alloc(0) }))
  assert.ok(five !== undefined && four !== undefined)
  writeExtensions(writer, [five, four])
  assert.deepEqual([...writer.bytes()], [2, 4, 0, 0, 5, 0, 0])
})

test('control records: a wrong role, flag, range or tail is INTEGRITY; an unknown type is kept', () => {
  const [hash] = HASHES
  const bad: [number, Writer][] = [
    [2, new Writer().raw(hash).u8(0)],
    [2, new Writer().raw(hash).u8(5)],
    [7, new Writer().raw(hash).u8(2)],
    [8, new Writer().raw(hash).varint(1).varint(4).varint(4)],
    [8, new Writer().raw(hash).varint(1).varint(5).varint(4)],
    [1, new Writer().raw(hash).u8(0)]
  ]
  for (const [tag, body] of bad) refuses('INTEGRITY', () => decodeControlRecord(control(tag, body)))
  const bytes = control(200, new Writer().raw(Buffer.from('anything')))
  const { body } = decodeControlRecord(bytes)
  assert.deepEqual(body, { type: 'unknown', tag: 200, bytes: Buffer.from('anything') })
  assert.deepEqual(encodeControlRecord(decodeControlRecord(bytes)), bytes)
})

test('pages: a wrong kind, mask, level or count is INTEGRITY', () => {
  const page = (...fields: (number | Buffer)[]): Buffer =>
    Buffer.concat(fields.map((field) => (typeof field === 'number' ? Buffer.from([field]) : field)))
  const [hash] = HASHES
  const bad = {
    empty: page(0, 0),
    'more than 128 entries': page(0, 0x81, 1, Buffer.alloc(129)),
    'level 6': page(6, 1, hash),
    'unknown entry': page(0, 1, 6),
    'zero with an empty mask': page(0, 1, 4, 0, 0),
    'chunk with an empty mask': page(0, 1, 5, 0, 0, hash),
    'no patch': page(0, 1, 3, hash, 0),
    'five patches': page(0, 1, 3, hash, 5, ...Array(5).fill(page(1, 0, hash))),
    'patch with an empty mask': page(0, 1, 3, hash, 1, 0, 0, hash)
  }
  for (const [why, bytes] of Object.entries(bad)) {
    refuses('INTEGRITY', () => decodeIdPage(bytes), why)
  }
  refuses('INTEGRITY', () => decodePlacePage(page(0, 0, 0, 0, 1, 6)), 'six places')
  refuses('INTEGRITY', () => decodePlacePage(page(1, 0, 0, 0, 1, 2)), 'two places of a child')
  const wide = new Writer().u8(0).varint(65_536).varint(0).varint(0).varint(1).u8(0)
  refuses('INTEGRITY', () => decodePlacePage(wide.bytes()), 'core 65,536')
})

test('absurd declared sizes are INTEGRITY at once and allocate nothing', () => {
  const [hash] = HASHES
  const root = Buffer.alloc(32)
  const line = (size: number): Writer =>
    new Writer()
      .u8(0)
      .sized(Buffer.from('a'))
      .varint(0)
      .varint(0)
      .varint(0)
      .u8(0)
      .u8(1)
      .varint(size)
  const huge: [string, () => unknown][] = [
    ['parents', () => decodeVersion(versionStart().varint(MAX).bytes())],
    ['heads', () => decodeHeads(new Writer().varint(MAX).bytes())],
    ['heads within bounds', () => decodeHeads(new Writer().varint(65_536).bytes())],
    ['announcements', () => decodeAnnouncements(new Writer().varint(1).varint(MAX).bytes())],
    ['body', () => decodeControlRecord(control(5, new Writer().raw(hash.subarray(0, 16))))],
    ['bitmap', () => decodeControlRecord(control(6, bitmap(MAX)))],
    ['bitmap within bounds', () => decodeControlRecord(control(6, bitmap(2 ** 20)))],
    [
      'file',
      () =>
        decodeFileEntry(
          line(2 ** 48 + 1)
            .raw(root)
            .varint(0)
            .bytes()
        )
    ],
    ['path', () => decodeFileEntry(new Writer().u8(0).varint(4_097).bytes())],
    ['items', () => decodePack(new Writer().u8(1).u8(0).varint(MAX).bytes())],
    ['items within bounds', () => decodePack(new Writer().u8(1).u8(0).varint(16_384).bytes())],
    ['item', () => decodePack(new Writer().u8(1).u8(0).varint(1).raw(hash).varint(65_537).bytes())],
    ['pack', () => decodePack(largePack())]
  ]
  const before = process.memoryUsage().arrayBuffers
  const started = performance.now()
  for (let i = 0; i < 50; i++) for (const [why, work] of huge) refuses('INTEGRITY', work, why)
  assert.ok(performance.now() - started < 2_000)
  assert.ok(process.memoryUsage().arrayBuffers - before < 8 * 2 ** 20)
  assert.equal(
    decodeFileEntry(
      line(2 ** 48)
        .raw(root)
        .varint(0)
        .bytes()
    ).type,
    'file'
  )
})

test('packs: an unknown kind or codec, no items or another length are INTEGRITY', () => {
  const [hash] = HASHES
  const item = (length: number): Buffer => new Writer().varint(1).raw(hash).varint(length).bytes()
  const pack = (kind: number, codec: number, ...rest: Buffer[]): Buffer =>
    Buffer.concat([Buffer.from([kind, codec]), ...rest])
  for (const bad of [
    pack(0, 0, item(1), Buffer.alloc(1)),
    pack(3, 0, item(1), Buffer.alloc(1)),
    pack(1, 2, item(1), Buffer.alloc(1)),
    pack(1, 0, Buffer.from([0])),
    pack(1, 0, item(2), Buffer.alloc(1)),
    pack(1, 0, item(2), Buffer.alloc(3))
  ]) {
    refuses('INTEGRITY', () => decodePack(bad))
  }
})

test('the protocol version is the largest that both sides speak', () => {
  const with1 = (min: number, max: number) => negotiate({ min, max, software: '' })
  assert.equal(with1(1, 1), 1)
  assert.equal(with1(1, 9), 1)
  assert.equal(with1(0, 1), 1)
  assert.equal(with1(2, 9), null)
  assert.equal(with1(0, 0), null)
  assert.equal(with1(5, 1), null)
})

/** A receipt for one core whose bitmap says to have this many bytes. */
function bitmap(length: number): Writer {
  const [hash] = HASHES
  const writer = new Writer().raw(hash).varint(1).raw(hash).varint(0).varint(1).raw(hash)
  return writer.u8(1).varint(length)
}

/** 49 chunks of 64 KiB: one more than a pack may hold. */
function largePack(): Buffer {
  const writer = new Writer().u8(1).u8(1).varint(49)
  for (let i = 0; i < 49; i++) writer.raw(HASHES[0]).varint(65_536)
  return writer.bytes()
}
