import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { chunkId, isZero, pageHash } from '../../lib/chunk/id.js'
import { CHUNK_SIZE } from '../../lib/format/limits.js'

test('zeros of any length up to a chunk are zero; one bit anywhere is not', () => {
  fc.assert(
    fc.property(fc.nat(CHUNK_SIZE), fc.nat(), fc.nat(7), (length, at, bit) => {
      const chunk = Buffer.alloc(length)
      assert.equal(isZero(chunk), true)
      if (length === 0) return
      chunk[at % length] = 1 << bit
      assert.equal(isZero(chunk), false)
    })
  )
})

test('ids depend on every byte and on the length, and are no page hashes', () => {
  const bytes = Buffer.alloc(CHUNK_SIZE, 'chunk')
  const changed = Buffer.from(bytes)
  changed[CHUNK_SIZE - 1] = 0
  const ids = [
    chunkId(bytes),
    chunkId(changed),
    chunkId(bytes.subarray(1)),
    chunkId(Buffer.alloc(5)),
    chunkId(Buffer.alloc(6)),
    pageHash(bytes)
  ]
  assert.equal(new Set(ids.map((id) => id.toString('hex'))).size, ids.length)
  assert.ok(ids.every((id) => id.byteLength === 32))
  assert.deepEqual(chunkId(Buffer.from(bytes)), chunkId(bytes))
})
