import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { chunkId } from '../../lib/chunk/id.js'
import { MAX_PACK_ITEMS, MAX_PACK_RAW } from '../../lib/format/limits.js'
import { decodePack, rawLength } from '../../lib/format/pack.js'
import type { Log } from '../../lib/log/log.js'
import type { Stream } from '../../lib/log/pack-writer.js'
import { packs } from './stores.js'

/** Ids of all items in the packs of a log, and what each pack is. */
async function contentsOf(log: Log) {
  const ids: string[] = []
  const kinds: string[] = []
  for (let block = 1; block < log.length; block++) {
    const { kind, items } = decodePack(await log.read(block))
    assert.ok(items.length <= MAX_PACK_ITEMS && rawLength(items) <= MAX_PACK_RAW)
    kinds.push(kind)
    ids.push(...items.map(({ id }) => id.toString('hex')))
  }
  return { ids, kinds }
}

const STREAMS: readonly Stream[] = ['disk', 'memory', 'ids', 'places']
const KINDS = {
  disk: 'chunk',
  memory: 'chunk',
  working: 'chunk',
  ids: 'page',
  places: 'page',
  table: 'chunk'
} as const

test('each item once, in any order of streams, repeats and writers; places give its bytes', async (t) => {
  const { log, writer, reader } = await packs(t)
  const added = fc.array(
    fc.record({
      stream: fc.constantFrom(...STREAMS),
      seed: fc.nat(60),
      size: fc.oneof(fc.nat(200), fc.constantFrom(4_096, 65_536))
    }),
    { maxLength: 80 }
  )
  const seen = new Set<string>()
  await fc.assert(
    fc.asyncProperty(added, fc.boolean(), async (items, compress) => {
      const packer = writer(compress)
      const places = items.map(({ stream, seed, size }) => {
        const bytes = Buffer.alloc(size, `${KINDS[stream]} ${seed} `)
        const id = chunkId(bytes)
        seen.add(id.toString('hex'))
        return { bytes, place: packer.add(stream, id, bytes) }
      })
      await packer.settle(Promise.all(places.map(({ place }) => place)))
      await packer.end()
      const source = reader()
      for (const { bytes, place } of places) assert.ok(bytes.equals(await source.read(await place)))
    }),
    { numRuns: 20 }
  )
  const { ids } = await contentsOf(log)
  assert.equal(new Set(ids).size, seen.size)
  assert.equal(ids.length, seen.size, 'an item was written twice')
})

test('an item is found at every moment between put and the index', async (t) => {
  const { log, writer } = await packs(t)
  const packer = writer()
  const strangers = Array.from({ length: 16 }, () => randomBytes(32))
  for (let n = 0; n < 30; n++) {
    const bytes = randomBytes(1_000)
    const id = chunkId(bytes)
    packer.put('disk', id, bytes)
    packer.closePacks()
    let isAppended = false
    const end = packer.end().finally(() => (isAppended = true))
    const asked: ReturnType<typeof packer.find>[] = []
    for (let after = 0; !isAppended || after++ < 3;) {
      asked.push(packer.find([id, ...strangers]))
      await new Promise((resolve) => setImmediate(resolve))
    }
    await end
    for (const answer of asked) {
      const [place] = await answer
      assert.ok(place, `item ${n} was not found`)
      assert.deepEqual(await place, { core: 0, block: log.length - 1, ordinal: 0 })
    }
  }
})

test('memory is in smaller packs than disk, pages are packs of their own', async (t) => {
  const { log, writer } = await packs(t)
  const packer = writer()
  for (let n = 0; n < 16; n++) {
    for (const stream of ['disk', 'memory'] as const) {
      const bytes = randomBytes(65_536)
      packer.put(stream, chunkId(bytes), bytes)
    }
  }
  assert.ok(packer.find([null]))
  const page = randomBytes(500)
  const place = packer.put('ids', chunkId(page), page)
  await packer.end()
  assert.equal((await place).ordinal, 0)
  const { kinds } = await contentsOf(log)
  assert.deepEqual(kinds.toSorted(), [...Array.from({ length: 17 }, () => 'chunks'), 'pages'])
  assert.equal(packer.stored > 2 * 1_048_576, true)
})

test('a pack with a byte too many items is closed in time', async (t) => {
  const { log, writer } = await packs(t)
  const packer = writer()
  for (let n = 0; n < 20_000; n++) {
    const bytes = Buffer.from(`item ${n}`)
    packer.put('disk', chunkId(bytes), bytes)
  }
  await packer.end()
  assert.equal((await contentsOf(log)).ids.length, 20_000)
})

test(
  'settle ends where each place depends on a pack that is still open',
  { timeout: 10_000 },
  async (t) => {
    const { writer, reader } = await packs(t)
    const packer = writer()
    const put = (stream: Stream, text: string) => {
      const bytes = Buffer.from(text)
      return packer.add(stream, chunkId(bytes), bytes)
    }
    let last = put('disk', 'bottom')
    for (let level = 0; level < 12; level++) {
      const below = last
      const up = async () => put(STREAMS[level % 4] ?? 'disk', JSON.stringify(await below))
      last = up()
    }
    const place = await packer.settle(last)
    await packer.end()
    const source = reader()
    let text = (await source.read(place)).toString()
    for (let level = 0; level < 12; level++) {
      text = (await source.read(JSON.parse(text))).toString()
    }
    assert.equal(text, 'bottom')
  }
)

test('ready bounds what is under way', async (t) => {
  const { log, writer } = await packs(t)
  const packer = writer()
  const from = log.length
  let put = 0
  let most = 0
  for (let n = 0; n < 64 * 16; n++) {
    const bytes = randomBytes(65_536)
    packer.put('disk', chunkId(bytes), bytes)
    put++
    await packer.ready()
    most = Math.max(most, put * 65_536 - (log.length - from) * 1_048_576)
  }
  await packer.end()
  assert.equal(log.length - from, 64)
  assert.ok(most <= 26 * 1_048_576, `${most} bytes were under way`)
})
