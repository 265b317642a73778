import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { CHUNK_SIZE, SUBPAGE_SIZE } from '../../lib/format/limits.js'
import { scratch } from '../support/scratch.js'
import { openImage, storeFile } from './images.js'

const SIZE = 7 * CHUNK_SIZE + 5_000
const MOST = SIZE + CHUNK_SIZE

const offset = fc.oneof(
  fc.nat(SIZE),
  fc.nat(Math.floor(SIZE / SUBPAGE_SIZE)).map((page) => page * SUBPAGE_SIZE),
  fc.constantFrom(0, SIZE - 1, SIZE - 5_000)
)
const length = fc.oneof(
  fc.nat(3 * SUBPAGE_SIZE),
  fc.constantFrom(1, 512, SUBPAGE_SIZE, CHUNK_SIZE),
  fc.nat(2 * CHUNK_SIZE)
)
const step = fc.oneof(
  { weight: 5, arbitrary: fc.tuple(fc.constant('write' as const), offset, length) },
  { weight: 2, arbitrary: fc.tuple(fc.constant('zero' as const), offset, length) },
  { weight: 2, arbitrary: fc.tuple(fc.constant('read' as const), offset, length) },
  { weight: 1, arbitrary: fc.tuple(fc.constant('resize' as const), fc.nat(MOST), fc.constant(0)) },
  { weight: 1, arbitrary: fc.tuple(fc.constantFrom('reopen', 'flush'), fc.nat(0), fc.constant(0)) }
)

test('an image is what a plain buffer would be, over resizes and the end of its process', async (t) => {
  const dir = await scratch(t)
  const file = await storeFile(SIZE)
  let run = 0
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 30 }), async (steps) => {
      const path = join(dir, String(run++))
      let image = await openImage(file, path)
      let model = Buffer.from(file.contents)
      for (const [kind, at, count] of steps) {
        const end = Math.min(at + count, model.byteLength)
        const start = Math.min(at, end)
        if (kind === 'write') {
          const bytes = randomBytes(end - start)
          bytes.copy(model, start)
          await image.write(start, bytes)
        } else if (kind === 'zero') {
          model.fill(0, start, end)
          await image.zero(start, end - start)
        } else if (kind === 'resize') {
          const next = Buffer.alloc(at)
          model.copy(next)
          model = next
          await image.resize(at)
        } else if (kind === 'flush') {
          await image.flush()
        } else if (kind === 'reopen') {
          // As after a kill: nothing is closed or flushed before another process opens it.
          const left = image
          image = await openImage(file, path)
          await left.close()
        } else {
          assert.deepEqual(await image.read(at, count), model.subarray(at, at + count))
        }
      }
      assert.equal(image.size, model.byteLength)
      assert.deepEqual(await image.read(0, MOST), model)
      let end = 0
      for (const { length, isHole } of await image.stretches(0, MOST)) {
        if (isHole) assert.ok(model.subarray(end, end + length).every((byte) => byte === 0))
        end += length
      }
      assert.equal(end, model.byteLength)
      await image.close()
    }),
    { numRuns: 150 }
  )
})

test('writes side by side, of parts of the same pages, all count', async (t) => {
  const dir = await scratch(t)
  const file = await storeFile(SIZE)
  const image = await openImage(file, join(dir, 'overlay'))
  const model = Buffer.from(file.contents)
  // Every second sector once, in an order that hops about.
  const count = Math.floor(SIZE / 1_024)
  await Promise.all(
    Array.from({ length: count }, async (_, n) => {
      const at = ((n * 157) % count) * 1_024
      const bytes = Buffer.alloc(512, n + 1)
      bytes.copy(model, at)
      await image.write(at, bytes)
    })
  )
  assert.deepEqual(await image.read(0, SIZE), model)
  await image.close()
})

test('whole pages are written and made zero without reading anything', async (t) => {
  const dir = await scratch(t)
  const file = await storeFile(SIZE)
  const image = await openImage(file, join(dir, 'overlay'))
  await image.write(3 * SUBPAGE_SIZE, randomBytes(5 * SUBPAGE_SIZE))
  await image.write(SIZE - 5_000, randomBytes(5_000))
  await image.zero(CHUNK_SIZE, 2 * CHUNK_SIZE)
  assert.equal(file.source.reads, 0)
  assert.equal(image.dirtyBytes, (5 + 2 + 32) * SUBPAGE_SIZE)
  await image.write(100, Buffer.alloc(1))
  assert.ok(file.source.reads > 0)
  await image.close()
})

test('after the computer went down, what was not flushed does not count', async (t) => {
  const dir = await scratch(t)
  const file = await storeFile(SIZE)
  const path = join(dir, 'overlay')
  const image = await openImage(file, path)
  const model = Buffer.from(file.contents)
  const [flushed, lost] = [randomBytes(SUBPAGE_SIZE), randomBytes(SUBPAGE_SIZE)]
  flushed.copy(model, 0)
  await image.write(0, flushed)
  await image.flush()
  await image.write(8 * SUBPAGE_SIZE, lost)
  await image.close()
  for (let boot = 0; boot < 3; boot++) {
    // The journal of another boot.
    const journal = await readFile(`${path}.map`)
    journal.fill(0x5a, 16, 32)
    await writeFile(`${path}.map`, journal)
    const again = await openImage(file, path)
    assert.deepEqual(await again.read(0, SIZE), model)
    await again.close()
  }
})

test('a journal that is torn counts as far as it goes; one of another image is refused', async (t) => {
  const dir = await scratch(t)
  const file = await storeFile(SIZE)
  const path = join(dir, 'overlay')
  const image = await openImage(file, path)
  await image.write(0, randomBytes(SUBPAGE_SIZE))
  await image.write(8 * SUBPAGE_SIZE, randomBytes(SUBPAGE_SIZE))
  const expected = await image.read(0, 4 * SUBPAGE_SIZE)
  await image.close()
  const journal = await readFile(`${path}.map`)
  await writeFile(`${path}.map`, journal.subarray(0, journal.byteLength - 5))
  const torn = await openImage(file, path)
  assert.deepEqual(await torn.read(0, 4 * SUBPAGE_SIZE), expected)
  assert.equal(torn.dirtyBytes, SUBPAGE_SIZE)
  await torn.close()
  const other = await storeFile(SIZE - 1)
  await assert.rejects(openImage(other, path), { code: 'INTEGRITY' })
  await rm(path)
  await assert.rejects(openImage(file, path), { code: 'INTEGRITY' })
})

test('a chunk that is not what its version says is never given out', async (t) => {
  const dir = await scratch(t)
  const file = await storeFile(SIZE)
  const image = await openImage(
    {
      ...file,
      source: Object.assign(file.source, {
        read: async () => randomBytes(CHUNK_SIZE)
      })
    },
    join(dir, 'overlay')
  )
  await assert.rejects(image.read(0, 10), { code: 'INTEGRITY' })
  await assert.rejects(image.write(10, Buffer.alloc(1)), { code: 'INTEGRITY' })
  await image.write(0, Buffer.alloc(SUBPAGE_SIZE, 1))
  assert.deepEqual(await image.read(0, 4), Buffer.alloc(4, 1))
  await image.close()
})
