import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import type { MemberRole } from '../../lib/format/control-record.js'
import { Identity } from '../../lib/keys/identity.js'
import { signControl } from '../../lib/parcel/members/control.js'
import { TestParcel } from './parcels.js'

test('a vault and a stranger get no recipe and no item, who may read gets both', async (t) => {
  const test = await TestParcel.create(t)
  await writeFile(join(test.folder, 'file'), randomBytes(100_000))
  await test.commit()
  const { parcel, identity } = test
  const letIn = (role: MemberRole): string => {
    const host = Identity.create().publicKey
    const body = { type: 'member', host, role } as const
    const { control, id } = parcel
    const [sequence, parents] = [control.count(identity.publicKey), control.parents(64)]
    const fields = { parcel: id, sequence, epoch: 0, parents, created: 0, body }
    control.add(signControl(identity, fields))
    return host.toString('hex')
  }
  const [data] = test.data()
  assert.ok(data)
  const ask = async (host: string): Promise<{ recipes: number; bytes: number }> => {
    const of = { core: data.key, blocks: [{ index: 1, nodes: 0, ordinals: [0] }] }
    const recipes = await parcel.answers.recipes({ kind: 'recipes', ...of }, host)
    const items = await parcel.answers.items({ kind: 'items', ...of }, host)
    return { recipes: recipes.filter((recipe) => recipe !== null).length, bytes: items.byteLength }
  }
  for (const role of ['reader', 'runner', 'owner'] as const) {
    const { recipes, bytes } = await ask(letIn(role))
    assert.ok(recipes === 1 && bytes > 0, role)
  }
  const stranger = Identity.create().publicKey.toString('hex')
  for (const host of [letIn('vault'), stranger]) {
    assert.deepEqual(await ask(host), { recipes: 0, bytes: 0 })
  }
})
