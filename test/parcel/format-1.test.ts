import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { z } from 'zod'
import { WorkerPool } from '../../lib/chunk/worker-pool.js'
import { decodeCoreHeader } from '../../lib/format/core-header.js'
import { decodeMetaRecord } from '../../lib/format/meta-record.js'
import { CoreTable } from '../../lib/log/core-table.js'
import { PackReader } from '../../lib/log/pack-reader.js'
import { Store } from '../../lib/log/store.js'
import { contents } from '../../lib/image/contents.js'
import { History } from '../../lib/parcel/history.js'
import { materialise } from '../../lib/parcel/checkout/materialise.js'
import { aKeyPair, aKeyring } from '../log/stores.js'
import { onEnd } from '../support/on-end.js'
import { scratch } from '../support/scratch.js'
import { WORK } from './parcels.js'
import { snapshot } from './trees.js'

const FIXTURE = new URL('../../../test/fixtures/format-1.json', import.meta.url)
const bodies = z.array(z.string().transform((text) => Buffer.from(text, 'base64')))
const Fixture = z.object({
  author: z.string(),
  files: z.record(z.string(), z.string()),
  logs: z.object({ meta: bodies, data: bodies })
})

test('versions of format 1, whose chunks BLAKE2b names, are read', async (t) => {
  const { author, files, logs } = Fixture.parse(JSON.parse(await readFile(FIXTURE, 'utf8')))
  const dir = await scratch(t)
  const store = await Store.open(join(dir, 'store'))
  const pool = new WorkerPool()
  onEnd(t, () => store.close())
  onEnd(t, () => pool.close())
  const data = await store.own('data', aKeyPair(), aKeyring())
  for (const body of logs.data) await data.append([[body]])

  const records = logs.meta.slice(1).map((body) => decodeMetaRecord(body))
  const history = new History(decodeCoreHeader(logs.meta[0] ?? Buffer.alloc(0)).parcel)
  const host = Buffer.from(author, 'hex')
  for (const record of records) {
    if (record.type === 'places') history.addPlaces(record.places, host)
    if (record.type === 'version') history.addVersion(record.bytes, record.signature, host)
  }
  const [head] = history.heads()
  assert.ok(head)
  assert.equal(history.size, 2)
  assert.equal(head.version.chunking, 1)
  const places = history.places(head.id)
  const source = new PackReader(new CoreTable(places.cores), async () => data)
  const to = join(dir, 'to')
  await materialise(to, {
    source,
    pool,
    contents: () => contents(source, head.version, places),
    onItems: async () => {},
    beforeSwap: async () => {},
    work: WORK
  })
  assert.deepEqual(Object.fromEntries((await snapshot(to)).files), files)
})
