import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { readdir, readFile, rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { writeSealed } from '../../lib/keys/at-rest.js'
import { loadStates, saveState, type LocalState } from '../../lib/parcel/local-state.js'
import { scratch } from '../support/scratch.js'

const KEY = randomBytes(32)

function state(): LocalState {
  const hex = (bytes: number): string => randomBytes(bytes).toString('hex')
  return {
    format: 1,
    parcel: hex(32),
    name: 'p',
    driver: 'folder',
    path: '/somewhere',
    epochs: [{ epoch: 0, record: null, epochKey: hex(32), controlKey: hex(32) }],
    incarnation: { id: hex(16), control: hex(32), meta: hex(32), data: hex(32) },
    base: null,
    isStarted: false,
    pending: null,
    rollbacks: [],
    consistency: 'available',
    days: 7,
    seen: {},
    copies: 1,
    inviter: null,
    forgotten: [],
    letGo: [],
    moving: null,
    isUnreclaimed: false,
    retention: null,
    checkpointEvery: null,
    checkpointIdle: null,
    hoard: { versions: 'all', files: [] },
    carriesTo: [],
    marks: [{ core: hex(32), length: 3, treeHash: hex(32) }],
    announcements: [{ bytes: 'AAAA', signature: hex(64) }]
  }
}

test('states come back, the last one saved, whatever else is in the folder', async (t) => {
  const dir = await scratch(t)
  const [a, b] = [state(), state()]
  await saveState(dir, KEY, a)
  await saveState(dir, KEY, b)
  await saveState(dir, KEY, { ...a, name: 'renamed', base: a.parcel })
  await writeFile(join(dir, `${b.parcel}.parcel.123.tmp`), 'what a crash left')
  const loaded = await loadStates(dir, KEY)
  const byName = (x: LocalState, y: LocalState): number => x.name.localeCompare(y.name)
  assert.deepEqual(loaded.toSorted(byName), [b, { ...a, name: 'renamed', base: a.parcel }])
})

test('nothing of a state can be read in its file', async (t) => {
  const dir = await scratch(t)
  const one = state()
  await saveState(dir, KEY, one)
  const [name = ''] = await readdir(dir)
  const bytes = await readFile(join(dir, name))
  const seed = one.incarnation?.data ?? ''
  for (const text of ['folder', '/somewhere', seed, Buffer.from(seed, 'hex')]) {
    assert.equal(bytes.includes(text), false)
  }
})

test("another host's file, a renamed one and a damaged one are BAD_KEY", async (t) => {
  const dir = await scratch(t)
  const one = state()
  const path = join(dir, `${one.parcel}.parcel`)
  await saveState(dir, KEY, one)
  const bytes = await readFile(path)
  await assert.rejects(loadStates(dir, randomBytes(32)), { code: 'BAD_KEY' })
  for (const at of [0, 23, 24, bytes.byteLength - 1]) {
    const damaged = Buffer.from(bytes)
    damaged[at] = (damaged[at] ?? 0) ^ 1
    await writeFile(path, damaged)
    await assert.rejects(loadStates(dir, KEY), { code: 'BAD_KEY' })
  }
  for (const length of [0, 10, 39, 40, bytes.byteLength - 1]) {
    await writeFile(path, bytes.subarray(0, length))
    await assert.rejects(loadStates(dir, KEY), { code: 'BAD_KEY' }, `${length} bytes`)
  }
  await writeFile(path, bytes)
  await rename(path, join(dir, `${state().parcel}.parcel`))
  await assert.rejects(loadStates(dir, KEY), { code: 'BAD_KEY' })
})

test('a newer format is NEWER_FORMAT, another shape INTEGRITY', async (t) => {
  const dir = await scratch(t)
  const write = (value: unknown): Promise<void> =>
    writeSealed(join(dir, 'x.parcel'), KEY, Buffer.from(JSON.stringify(value)))
  await write({ ...state(), format: 2 })
  await assert.rejects(loadStates(dir, KEY), { code: 'NEWER_FORMAT' })
  await write({ format: 2, everything: 'else' })
  await assert.rejects(loadStates(dir, KEY), { code: 'NEWER_FORMAT' })
  for (const wrong of [
    { ...state(), parcel: 'x' },
    { ...state(), more: 1 },
    { format: 1 },
    [],
    0
  ]) {
    await write(wrong)
    await assert.rejects(loadStates(dir, KEY), { code: 'INTEGRITY' })
  }
})
