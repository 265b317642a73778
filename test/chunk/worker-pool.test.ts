import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { open, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test, type TestContext } from 'node:test'
import * as fc from 'fast-check'
import { chunkId, isZero } from '../../lib/chunk/id.js'
import { SEGMENT_SIZE } from '../../lib/chunk/buffers.js'
import { WorkerPool, type Segment } from '../../lib/chunk/worker-pool.js'
import { CHUNK_SIZE } from '../../lib/format/limits.js'
import { onEnd } from '../support/on-end.js'
import { scratch } from '../support/scratch.js'

function aPool(t: TestContext): WorkerPool {
  const pool = new WorkerPool()
  onEnd(t, () => pool.close())
  return pool
}

async function aFile(t: TestContext, bytes: Buffer) {
  const path = join(await scratch(t), 'file')
  await writeFile(path, bytes)
  const handle = await open(path)
  onEnd(t, () => handle.close())
  return handle
}

/** Bytes and ids are what reading and hashing here gives. */
function same(segment: Segment, expected: Buffer): void {
  assert.ok(segment.bytes.equals(expected))
  for (let at = 0, n = 0; at < expected.byteLength; at += CHUNK_SIZE, n++) {
    const chunk = expected.subarray(at, at + CHUNK_SIZE)
    assert.deepEqual(segment.id(n), isZero(chunk) ? null : chunkId(chunk))
  }
}

test('segments and ids are those of the file, many at once, short at its end', async (t) => {
  const pool = aPool(t)
  const bytes = randomBytes(5 * SEGMENT_SIZE + 12_345)
  bytes.fill(0, 3 * CHUNK_SIZE, 9 * CHUNK_SIZE)
  bytes.fill(0, 5 * SEGMENT_SIZE)
  const { fd } = await aFile(t, bytes)
  const read = fc.record({
    offset: fc.nat(bytes.byteLength + CHUNK_SIZE),
    length: fc.oneof(fc.constant(SEGMENT_SIZE), fc.integer({ min: 1, max: SEGMENT_SIZE }))
  })
  await fc.assert(
    fc.asyncProperty(fc.array(read, { maxLength: 12 }), async (reads) => {
      const segments = await Promise.all(
        reads.map(({ offset, length }) => pool.read(fd, offset, length))
      )
      // All at once, so that a buffer that two segments shared would show.
      for (const [i, { offset, length }] of reads.entries()) {
        const segment = segments[i]
        assert.ok(segment)
        same(segment, bytes.subarray(offset, offset + length))
      }
      for (const segment of segments) segment.release()
    }),
    { numRuns: 25 }
  )
})

test('a read that fails is an error of that read alone', async (t) => {
  const pool = aPool(t)
  const dir = await open(await scratch(t))
  onEnd(t, () => dir.close())
  const bytes = randomBytes(SEGMENT_SIZE)
  const { fd } = await aFile(t, bytes)
  const reads = Array.from({ length: 12 }, (_, i) =>
    pool.read(i % 3 === 0 ? dir.fd : fd, 0, SEGMENT_SIZE)
  )
  for (const [i, result] of (await Promise.allSettled(reads)).entries()) {
    if (i % 3 === 0) {
      assert.ok(result.status === 'rejected')
      assert.match(String(result.reason), /EISDIR/)
    } else {
      assert.ok(result.status === 'fulfilled')
      same(result.value, bytes)
    }
  }
})
