import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { ENVELOPE_BYTES, LENGTH_BYTES, MAX_BLOCK } from '../../lib/format/limits.js'
import { bucket, pad, unpad } from '../../lib/format/padding.js'
import { bytes } from './arbitrary.js'
import { refuses } from './refuses.js'

const length = fc.oneof(fc.nat(20_000), fc.nat(MAX_BLOCK - LENGTH_BYTES))

test('a bucket holds the body, never shrinks, and is filled to the brim by what it can hold', () => {
  fc.assert(
    fc.property(length, (size) => {
      const block = bucket(size)
      assert.ok(block >= size + LENGTH_BYTES && block >= 256 && block <= MAX_BLOCK)
      assert.equal(bucket(block - LENGTH_BYTES), block)
      assert.ok(bucket(size + 1) >= block)
      assert.ok(block <= 8_192 ? Number.isInteger(Math.log2(block)) : block % 8_192 === 0)
      assert.ok(block > 8_192 || block === 256 || block < 2 * (size + LENGTH_BYTES))
    }),
    { numRuns: 2_000 }
  )
})

test('from half a MiB on padding costs less than 2%', () => {
  fc.assert(
    fc.property(fc.integer({ min: 2 ** 19, max: MAX_BLOCK - LENGTH_BYTES }), (size) => {
      assert.ok((bucket(size) - size) / size < 0.02)
    }),
    { numRuns: 2_000 }
  )
})

test('a padded body is read back', () => {
  fc.assert(
    fc.property(fc.array(bytes(0, 300), { maxLength: 4 }), (parts) => {
      const block = pad(parts, ENVELOPE_BYTES).subarray(ENVELOPE_BYTES)
      assert.equal(block.byteLength, bucket(Buffer.concat(parts).byteLength))
      assert.deepEqual(unpad(block), Buffer.concat(parts))
    })
  )
})

test('a length that does not fit the block is INTEGRITY, whatever it says', () => {
  const block = pad([Buffer.alloc(100, 1)], 0)
  for (const claimed of [253, 256, 8_192, 2 ** 31, 2 ** 32 - 1]) {
    block.writeUInt32LE(claimed, 0)
    refuses('INTEGRITY', () => unpad(block), `length ${claimed}`)
  }
  for (const size of [0, 1, 3, 4, 255, 257, 300, 8_191]) {
    refuses('INTEGRITY', () => unpad(Buffer.alloc(size)), `a block of ${size}`)
  }
  refuses('INTEGRITY', () => unpad(pad([Buffer.alloc(MAX_BLOCK)], 0)), 'a block too large')
  assert.equal(unpad(pad([Buffer.alloc(MAX_BLOCK - 4)], 0)).byteLength, MAX_BLOCK - 4)
})

test('padding that is not zeros is INTEGRITY', () => {
  const block = pad([Buffer.alloc(100, 1)], 0)
  for (const at of [104, 200, 255]) {
    block[at] = 1
    refuses('INTEGRITY', () => unpad(block), `byte ${at}`)
    block[at] = 0
  }
  assert.equal(unpad(block).byteLength, 100)
})
