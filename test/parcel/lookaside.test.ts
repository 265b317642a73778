import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { test } from 'node:test'
import { chunkId, pageHash } from '../../lib/chunk/id.js'
import { encodePackHeader } from '../../lib/format/pack.js'
import type { Supply } from '../../lib/parcel/fetch/faults.js'
import { eventually } from '../support/hosts.js'
import { TestParcel } from './parcels.js'

test('what another parcel has under an id is given to an image only if it has that id', async (t) => {
  const test = await TestParcel.create(t)
  const other = await test.other()
  const [here] = test.data()
  const there = other.logs().find(({ kind }) => kind === 'data')
  assert.ok(here && there)
  const wanted = randomBytes(1_000)
  const items = [chunkId(wanted), chunkId(wanted, 1), pageHash(wanted)].flatMap((id) => [
    { id, length: wanted.byteLength },
    { id: randomBytes(32), length: wanted.byteLength }
  ])
  const header = encodePackHeader('chunks', 'none', items)
  await here.append([[header, ...items.map(() => wanted)]])
  for (const [n, { id }] of items.entries()) {
    const fault = { core: there.key, block: there.length, ordinal: null, id }
    // Nobody sends the block: what is not found here ends with the wait for it.
    const supply = (): Promise<Supply> => other.faults.supply(fault, AbortSignal.abort())
    if (n % 2 === 0) {
      // Nor does it wait until the other parcel's packs have been indexed.
      const found = await eventually(() => supply().catch(() => null), 'it is found')
      assert.deepEqual(found, { kind: 'item', bytes: wanted })
    } else {
      await assert.rejects(supply(), { code: 'INTERRUPTED' })
    }
  }
})
