import assert from 'node:assert/strict'
import { join } from 'node:path'
import { test } from 'node:test'
import { encodeMetaRecord } from '../../lib/format/meta-record.js'
import { encodeVersion } from '../../lib/format/version.js'
import { ItemClient } from '../../lib/export/item-client.js'
import { ITEM_SOCKET } from '../../lib/export/item-protocol.js'
import { ItemServer } from '../../lib/host/item-server.js'
import { version } from '../parcel/versions.js'
import { onEnd } from '../support/on-end.js'
import { scratch } from '../support/scratch.js'

const NONE = Buffer.alloc(32)
const record = encodeVersion(version())
const nowhere = { size: 0, root: null, place: null }
const places = encodeMetaRecord({
  type: 'places',
  places: { version: NONE, cores: [NONE], table: null, roots: nowhere }
})

test('items of one pack that are read at once, and come alone: each its own', async (t) => {
  const home = await scratch(t)
  const itemOf = (ordinal: number): Buffer => Buffer.alloc(100, ordinal)
  const asked: number[] = []
  const server = new ItemServer(() => ({
    records: {
      version: record.toString('base64'),
      places: places.toString('base64'),
      trace: null
    },
    async supply({ ordinal }) {
      asked.push(ordinal ?? -1)
      return { kind: 'item', bytes: itemOf(ordinal ?? -1) }
    },
    release() {}
  }))
  await server.listen(home)
  onEnd(t, () => server.close())
  const client = await ItemClient.connect({
    socket: join(home, ITEM_SOCKET),
    parcel: NONE.toString('hex'),
    version: NONE.toString('hex'),
    prefetch: false,
    start: []
  })
  onEnd(t, () => client.close())
  const read = (ordinal: number): Promise<Buffer> =>
    client.read({ core: 0, block: 7, ordinal }, Buffer.alloc(32, ordinal))
  const wanted = [1, 2, 3, 2]
  const came = await Promise.all(wanted.map(read))
  assert.deepEqual(came, wanted.map(itemOf))
  assert.deepEqual([...new Set(asked)].toSorted(), [1, 2, 3])
  // Other pages of them are wanted next.
  asked.length = 0
  assert.deepEqual(await Promise.all(wanted.map(read)), came)
  assert.deepEqual(asked, [])
})
