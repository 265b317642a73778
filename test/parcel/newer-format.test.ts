import assert from 'node:assert/strict'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { encodeMetaRecord } from '../../lib/format/meta-record.js'
import { encodeVersion } from '../../lib/format/version.js'
import { NS } from '../../lib/keys/namespaces.js'
import { TestParcel } from './parcels.js'

test('a version of a newer format is said to be one, and the older ones stay readable', async (t) => {
  const made = await TestParcel.create(t)
  await writeFile(join(made.folder, 'file'), 'old')
  const old = await made.commit()
  const bytes = encodeVersion({ ...old.version, parents: [old.id] })
  bytes[0] = 3
  const signature = made.identity.sign(NS.versionSignature, bytes)
  const meta = made.parcel.logs().find(({ kind }) => kind === 'meta')
  await meta?.append([[encodeMetaRecord({ type: 'version', bytes, signature })]])

  const parcel = await made.reopen()
  assert.equal(parcel.newerFormat?.code, 'NEWER_FORMAT')
  assert.match(parcel.problems.join(), /newer hyperparcel/)
  const [head] = parcel.history.heads()
  assert.ok(head)
  const to = join(made.dir, 'to')
  await made.checkOut(head, to)
  assert.equal(await readFile(join(to, 'file'), 'utf8'), 'old')
})
