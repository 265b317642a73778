import assert from 'node:assert/strict'
import { chmod, readFile, rm, stat, symlink, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout } from 'node:timers/promises'
import type { Known } from '../../lib/parcel/history.js'
import { TestParcel, WORK } from './parcels.js'

/** Longer than the clock of any file system that a test runs on ticks. */
const TICK = 150
const CHANGED = { code: 'CONFLICT', message: /since the last suspend/ }

function requireNoChanges(test: TestParcel, known: Known, path = test.folder): Promise<void> {
  const how = { served: new Set<string>(), isState: () => false, signal: WORK.signal }
  return test.parcel.files.requireNoChanges(known, path, how)
}

/** A parcel whose folder has a file, a large one, a link and a sparse file, and its version. */
async function suspended(t: Parameters<typeof TestParcel.create>[0], pause: number) {
  const test = await TestParcel.create(t)
  await writeFile(join(test.folder, 'file'), 'one')
  await writeFile(join(test.folder, 'large'), Buffer.alloc(3_000_000, 'abc'))
  await symlink('one', join(test.folder, 'link'))
  await writeFile(join(test.folder, 'empty'), '')
  await setTimeout(pause)
  return { test, known: await test.commit() }
}

// Just made, files have no stamps by which they would be known; later they have.
for (const [when, pause] of [
  ['at once', 0],
  ['later', TICK]
] as const) {
  test(`what was done after a suspend ${when} is seen, whatever the times say`, async (t) => {
    const { test, known } = await suspended(t, pause)
    await requireNoChanges(test, known)
    for (const [name, bytes] of [
      ['file', 'two'],
      ['large', Buffer.alloc(3_000_000, 'abd')]
    ] as const) {
      const path = join(test.folder, name)
      const [before, { mtimeMs }] = [await readFile(path), await stat(path)]
      // A date has milliseconds alone.
      const mtime = mtimeMs / 1e3
      await writeFile(path, bytes)
      await utimes(path, mtime, mtime)
      await assert.rejects(requireNoChanges(test, known), CHANGED, name)
      await writeFile(path, before)
      await utimes(path, mtime, mtime)
      await requireNoChanges(test, known)
    }
    await chmod(join(test.folder, 'file'), 0o600)
    await assert.rejects(requireNoChanges(test, known), CHANGED, 'mode')
    await chmod(join(test.folder, 'file'), 0o644)
    await rm(join(test.folder, 'link'))
    await symlink('two', join(test.folder, 'link'))
    await assert.rejects(requireNoChanges(test, known), CHANGED, 'link')
  })
}

test('what is written into a folder after its last check comes back with it', async (t) => {
  const { test, known: first } = await suspended(t, TICK)
  await writeFile(join(test.folder, 'file'), 'two')
  const second = await test.commit()
  const late = async (): Promise<void> => {
    await requireNoChanges(test, second)
    await writeFile(join(test.folder, 'file'), 'late')
  }
  const afterSwap = (previous: string): Promise<void> => requireNoChanges(test, second, previous)
  await assert.rejects(
    test.parcel.files.checkOut(
      first,
      test.folder,
      { served: null, beforeSwap: late, afterSwap },
      WORK
    ),
    CHANGED
  )
  const files = async () => [
    await readFile(join(test.folder, 'file'), 'utf8'),
    (await stat(join(test.folder, 'large'))).size
  ]
  assert.deepEqual(await files(), ['late', 3_000_000])
  // Also for who starts again the folder continues what it did.
  await test.reopen()
  assert.deepEqual(await files(), ['late', 3_000_000])
  const third = await test.commit()
  assert.deepEqual(third.version.parents, [second.id])
  await test.checkOut(third, join(test.dir, 'to'))
  assert.equal(await readFile(join(test.dir, 'to', 'file'), 'utf8'), 'late')
})
