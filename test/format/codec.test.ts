import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { Reader, Writer } from '../../lib/format/codec.js'
import { refuses } from './refuses.js'

function reader(...bytes: number[]): Reader {
  return new Reader(Buffer.from(bytes), 'test')
}

test('a varint is read back and has the shortest form', () => {
  fc.assert(
    fc.property(fc.oneof(fc.maxSafeNat(), fc.nat(70_000)), (value) => {
      const bytes = Buffer.from(new Writer().varint(value).bytes())
      assert.equal(new Reader(bytes, 'test').varint(), value)
      assert.equal(bytes.byteLength, Math.max(1, Math.ceil(value.toString(2).length / 7)))
    })
  )
})

test('a varint that is longer than it must be, or too large, is INTEGRITY', () => {
  refuses('INTEGRITY', () => reader(0x80, 0x00).varint())
  refuses('INTEGRITY', () => reader(0xff, 0x80, 0x00).varint())
  refuses('INTEGRITY', () => reader(0x80).varint())
  refuses('INTEGRITY', () => reader().varint())
  // 2^53, 2^56 - 1 and nine bytes.
  refuses('INTEGRITY', () => reader(0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x10).varint())
  refuses('INTEGRITY', () => reader(0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f).varint())
  refuses('INTEGRITY', () => reader(...Array<number>(8).fill(0x81), 0x01).varint())
  assert.equal(reader(0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x0f).varint(), 2 ** 53 - 1)
  refuses('INTEGRITY', () => reader(101).varint(100))
})

test('a writer refuses what cannot be written', () => {
  for (const value of [-1, 0.5, 2 ** 53, NaN]) {
    assert.throws(() => new Writer().varint(value), RangeError)
  }
  assert.throws(() => new Writer().fixed(Buffer.alloc(31), 32), RangeError)
  assert.throws(() => new Writer().text('three', 4), RangeError)
  assert.equal(new Writer().text('€', 3).length, 4)
})

test('text that is not UTF-8 is INTEGRITY', () => {
  refuses('INTEGRITY', () => reader(1, 0xff).text(10))
  refuses('INTEGRITY', () => reader(2, 0xc0, 0x80).text(10))
  refuses('INTEGRITY', () => reader(3, 0xed, 0xa0, 0x80).text(10))
  assert.equal(reader(3, 0xef, 0xbb, 0xbf).text(10), '\ufeff')
})

test('a declared size is refused before anything is allocated for it', () => {
  const huge = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x0f]
  const before = process.memoryUsage().arrayBuffers
  for (let i = 0; i < 1_000; i++) {
    refuses('INTEGRITY', () => reader(...huge, 1, 2, 3).sized(2 ** 20))
    refuses('INTEGRITY', () => reader(...huge, 1, 2, 3).sized(Number.MAX_SAFE_INTEGER))
    refuses('INTEGRITY', () => reader(...huge, 1, 2, 3).text(4_096))
    refuses('INTEGRITY', () => {
      const list = reader(...huge, 1, 2, 3)
      list.list(Number.MAX_SAFE_INTEGER, () => list.fixed(32))
    })
  }
  assert.ok(process.memoryUsage().arrayBuffers - before < 8 * 2 ** 20)
})

test('a writer grows as it must', () => {
  fc.assert(
    fc.property(fc.array(fc.uint8Array({ maxLength: 50 }), { maxLength: 50 }), (parts) => {
      const writer = new Writer(1)
      for (const part of parts) writer.raw(part)
      assert.deepEqual(Buffer.from(writer.bytes()), Buffer.concat(parts))
    })
  )
})
