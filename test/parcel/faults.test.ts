import assert from 'node:assert/strict'
import { test } from 'node:test'
import { FaultSource } from '../../lib/parcel/fetch/faults.js'
import { TestParcel } from './parcels.js'

test('a commit waits for a block of another host, but not for ever', async (t) => {
  const test = await TestParcel.create(t)
  const [log] = test.data()
  assert.ok(log)
  const places = {
    version: Buffer.alloc(32),
    cores: [log.key],
    table: null,
    roots: { size: 0, root: null, place: null }
  }
  const read = async (signal: AbortSignal, patience: number): Promise<Buffer> => {
    const source = new FaultSource(places, test.parcel.faults, signal, patience)
    const bytes = source.read({ core: 0, block: log.length, ordinal: 0 })
    assert.equal(source.fetched, 1)
    return bytes
  }
  const never = new AbortController().signal
  // A wait alone keeps no process alive.
  const alive = setInterval(() => {}, 1_000)
  t.after(() => clearInterval(alive))
  await assert.rejects(read(never, 50), { code: 'UNREACHABLE' })
  await assert.rejects(read(AbortSignal.timeout(50), 60_000), { code: 'INTERRUPTED' })
})
