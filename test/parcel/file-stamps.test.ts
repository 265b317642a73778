import assert from 'node:assert/strict'
import { test } from 'node:test'
import { FileStamps } from '../../lib/parcel/commit/file-stamps.js'

test('an inode beyond 2^63 is known again, as Node gives it or as it is', () => {
  const stamps = new FileStamps()
  const ino = 0xf000000000000001n
  stamps.push({ ino: BigInt.asIntN(64, ino), ctime: 5n })
  stamps.push(null)
  stamps.push({ ino, ctime: -5n })
  assert.deepEqual(
    [0, 1, 2].map((n) => stamps.at(n)),
    [{ ino, ctime: 5n }, null, { ino, ctime: -5n }]
  )
})
