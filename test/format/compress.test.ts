import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { compress, decompress } from '../../lib/chunk/compress.js'
import { ParcelError } from '../../lib/errors.js'
import { MAX_PACK_RAW } from '../../lib/format/limits.js'

const MAGIC = Buffer.from('28b52ffd', 'hex')

function block(type: 'raw' | 'rle' | 'compressed', size: number, isLast: boolean): Buffer {
  const kind = { raw: 0, rle: 1, compressed: 2 }[type]
  const header = Buffer.alloc(3)
  header.writeUIntLE((isLast ? 1 : 0) | (kind << 1) | (size << 3), 0, 3)
  return header
}

/** A frame of runs of one byte, each 4 bytes long and giving 128 KiB. */
function bomb(runs: number): Buffer {
  const run = Buffer.concat([block('rle', 131_072, false), Buffer.from([65])])
  const end = Buffer.concat([block('rle', 131_072, true), Buffer.from([65])])
  return Buffer.concat([MAGIC, Buffer.from([0, 0x38]), Buffer.alloc(4 * (runs - 1), run), end])
}

async function refusesQuickly(frame: Buffer, length: number, why: string): Promise<void> {
  const started = performance.now()
  const before = process.memoryUsage().rss
  await assert.rejects(decompress('zstd', frame, length), (error) => {
    assert.ok(error instanceof ParcelError, why)
    assert.equal(error.code, 'INTEGRITY', why)
    return true
  })
  assert.ok(performance.now() - started < 2_000, `${why}: it took too long`)
  assert.ok(process.memoryUsage().rss - before < 64 * 2 ** 20, `${why}: it took too much`)
}

test('what is compressed comes back, from nothing to a whole pack', async () => {
  const piece = fc.tuple(
    fc.uint8Array({ minLength: 1, maxLength: 40 }),
    fc.integer({ min: 1, max: 3e4 })
  )
  await fc.assert(
    fc.asyncProperty(fc.array(piece, { maxLength: 6 }), async (pieces) => {
      const raw = Buffer.concat(pieces.map(([bytes, count]) => Buffer.alloc(count, bytes)))
      const { codec, frame } = await compress(raw)
      assert.ok(frame.byteLength <= raw.byteLength)
      assert.ok((await decompress(codec, frame, raw.byteLength)).equals(raw))
    })
  )
  for (const length of [0, 1, 65_536, 131_072, 131_073, 1_048_576, MAX_PACK_RAW]) {
    const raw = Buffer.alloc(length, 'text that repeats ')
    const { codec, frame } = await compress(raw)
    assert.ok((await decompress(codec, frame, length)).equals(raw), `${length} bytes`)
  }
})

test('what does not get smaller is stored as it is', async () => {
  const raw = Buffer.alloc(65_536)
  let state = 1
  for (let i = 0; i < raw.byteLength; i++) {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0
    raw[i] = state >>> 24
  }
  assert.equal((await compress(raw)).codec, 'none')
})

test('a bomb is refused at once, before it goes off', async () => {
  await refusesQuickly(bomb(1_000_000), 65_536, '122 GiB in 4 MB')
  await refusesQuickly(bomb(64), 65_536, '8 MiB in 256 bytes')
  await refusesQuickly(Buffer.concat([bomb(1), bomb(1_000)]), 131_072, 'a bomb as a second frame')
  const skippable = Buffer.from('502a4d180000000000', 'hex')
  await refusesQuickly(Buffer.concat([skippable, bomb(1_000)]), 131_072, 'behind a skippable frame')
  const declares = Buffer.concat([
    MAGIC,
    Buffer.from([0xe0]),
    Buffer.from('0000000000010000', 'hex'),
    block('raw', 1, true),
    Buffer.from([65])
  ])
  await refusesQuickly(declares, 65_536, 'a declared content of 256 TiB')
  const window = [MAGIC, Buffer.from([0, 0xff]), block('raw', 1, true), Buffer.from([65])]
  await refusesQuickly(Buffer.concat(window), 1, 'a window of 3.75 TiB')
})

test('a frame that gives another length, or is damaged or cut, is INTEGRITY', async () => {
  const raw = Buffer.alloc(100_000, 'some text, again and again. ')
  const { frame } = await compress(raw)
  await refusesQuickly(frame, raw.byteLength - 1, 'one byte more')
  await refusesQuickly(frame, raw.byteLength + 1, 'one byte less')
  for (let end = 0; end < frame.byteLength; end++) {
    await refusesQuickly(frame.subarray(0, end), raw.byteLength, `cut at ${end}`)
  }
  await refusesQuickly(Buffer.concat([frame, Buffer.alloc(1)]), raw.byteLength, 'a byte behind it')
  await fc.assert(
    fc.asyncProperty(fc.uint8Array({ maxLength: 100 }), fc.boolean(), async (junk, isLikeZstd) => {
      const bytes = Buffer.concat([isLikeZstd ? MAGIC : Buffer.alloc(0), junk])
      await assert.rejects(decompress('zstd', bytes, 50_000), ParcelError)
    })
  )
})
