import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { test } from 'node:test'
import { Encoder } from '@toondepauw/node-zstd'
import * as fc from 'fast-check'
import { compress, compressSync, decompress, decompressSync } from '../../lib/chunk/compress.js'
import { MAX_PACK_RAW } from '../../lib/format/limits.js'

/** Runs of noise, of one byte and of text, as in a disk image. */
const mixed = fc
  .array(
    fc.record({
      kind: fc.constantFrom('noise', 'fill', 'text', 'digits'),
      length: fc.integer({ min: 1, max: 200_000 }),
      byte: fc.nat(255)
    }),
    { maxLength: 14 }
  )
  .map((runs) =>
    Buffer.concat(
      runs.map(({ kind, length, byte }) => {
        if (kind === 'noise') return randomBytes(length)
        if (kind === 'fill') return Buffer.alloc(length, byte)
        if (kind === 'text') return Buffer.alloc(length, `line ${byte} of a log\n`)
        return randomBytes(length).map((value) => 0x30 + (value % 10))
      })
    )
  )

test('whatever goes in comes out', async () => {
  await fc.assert(
    fc.asyncProperty(mixed, async (raw) => {
      const { codec, frame } = await compress(raw)
      assert.ok(frame.byteLength <= raw.byteLength)
      assert.ok(raw.equals(await decompress(codec, frame, raw.byteLength)))
    }),
    { numRuns: 60 }
  )
})

test('the largest pack round-trips', async () => {
  const raw = Buffer.alloc(MAX_PACK_RAW, 'abcdefg')
  const { codec, frame } = await compress(raw)
  assert.equal(codec, 'zstd')
  assert.ok(raw.equals(await decompress(codec, frame, raw.byteLength)))
})

test('what changes its kind every few KiB, so that a frame has short blocks, comes out', async () => {
  const kinds = [
    (length: number) => Buffer.alloc(length, 'some text of a log\n'),
    (length: number) => randomBytes(length).map((value) => 0x30 + (value % 10)),
    (length: number) => randomBytes(length).map((value) => value & 3)
  ]
  for (const piece of [4_096, 8_192, 12_288, 32_768, 65_536, 98_304]) {
    const pieces = Array.from({ length: MAX_PACK_RAW / piece }, (_, n) => kinds[n % 3]?.(piece))
    const raw = Buffer.concat(pieces.flatMap((each) => each ?? []))
    for (const isThorough of [false, true]) {
      const frame = compressSync(raw, { isThorough })
      if (frame === null) throw new Error('it does not become smaller')
      assert.ok(raw.equals(decompressSync('zstd', frame, raw.byteLength)), `pieces of ${piece}`)
    }
  }
})

test('a frame of many compressed blocks is refused before it is decompressed', async () => {
  const frame = await new Encoder(1).encode(Buffer.alloc(64 * 131_072, 'ab '))
  assert.ok(frame.byteLength < 4_096)
  for (const length of [65_536, 53 * 8_192]) {
    await assert.rejects(decompress('zstd', frame, length), { message: /declares too much/ })
  }
})

test('noise is stored as it is', async () => {
  const raw = randomBytes(300_000)
  const { codec, frame } = await compress(raw)
  assert.equal(codec, 'none')
  assert.ok(frame.equals(raw))
})

test('a frame of another length is refused', async () => {
  const raw = Buffer.alloc(100_000, 'text')
  const { codec, frame } = await compress(raw)
  for (const length of [0, raw.byteLength - 1, raw.byteLength + 1]) {
    await assert.rejects(decompress(codec, frame, length), { code: 'INTEGRITY' })
    await assert.rejects(decompress('none', raw, length), { code: 'INTEGRITY' }, 'stored raw')
  }
})

test('a bomb is refused before it is decompressed', async () => {
  const frame = await new Encoder(1).encode(Buffer.alloc(256 * 1024 * 1024))
  assert.ok(frame.byteLength < 65_536)
  const before = process.memoryUsage().rss
  await assert.rejects(decompress('zstd', frame, 65_536), {
    code: 'INTEGRITY',
    message: /declares too much/
  })
  assert.ok(process.memoryUsage().rss - before < 64 * 1024 * 1024)
})

test('two frames, a frame and a tail, a cut frame and noise are refused', async () => {
  const { frame } = await compress(Buffer.alloc(70_000, 'x'))
  const wrong = [
    Buffer.concat([frame, frame]),
    Buffer.concat([frame, Buffer.alloc(3)]),
    frame.subarray(0, -1),
    frame.subarray(0, 5),
    Buffer.alloc(0),
    randomBytes(500)
  ]
  for (const each of wrong) {
    await assert.rejects(decompress('zstd', each, 70_000), { code: 'INTEGRITY' })
  }
})

test('a frame with any byte changed gives the same bytes or INTEGRITY, never a crash', async () => {
  const raw = Buffer.alloc(40_000, 'some text that repeats. ')
  const { frame } = await compress(raw)
  for (let at = 0; at < frame.byteLength; at++) {
    const damaged = Buffer.from(frame)
    damaged[at] = (damaged[at] ?? 0) ^ 0x41
    try {
      assert.equal((await decompress('zstd', damaged, raw.byteLength)).byteLength, raw.byteLength)
    } catch (error) {
      assert.ok(
        error instanceof Error && 'code' in error && error.code === 'INTEGRITY',
        String(error)
      )
    }
  }
})
