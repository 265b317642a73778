import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { test } from 'node:test'
import { chunkId } from '../../lib/chunk/id.js'
import type { PackWriter } from '../../lib/log/pack-writer.js'
import { packs } from './stores.js'

const LIMIT = { timeout: 10_000 }

function fill(packer: PackWriter, count: number): void {
  for (let n = 0; n < count; n++) {
    const bytes = randomBytes(65_536)
    packer.put('disk', chunkId(bytes), bytes)
  }
}

test('an append that fails is the failure of everything that waits', LIMIT, async (t) => {
  const { store, writer } = await packs(t)
  const packer = writer()
  fill(packer, 64 * 16)
  const never = new Promise<never>(() => {})
  const waiting = [packer.ready(), packer.end(), packer.settle(never), packer.ready()]
  const refused = waiting.map((promise) => assert.rejects(promise, { code: 'FAILED' }))
  await store.close()
  await Promise.all(refused)
  // And of everything that comes after.
  fill(packer, 40)
  await assert.rejects(packer.ready(), { code: 'FAILED' })
  await assert.rejects(packer.end(), { code: 'FAILED' })
  await assert.rejects(packer.settle(never), { code: 'FAILED' })
})

test('an index that fails is a failure too', LIMIT, async (t) => {
  const { index, writer } = await packs(t)
  const packer = writer()
  fill(packer, 20)
  await index.close()
  await assert.rejects(packer.end())
  await assert.rejects(packer.find([randomBytes(32)]))
})
