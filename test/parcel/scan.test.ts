import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { chmod, readFile, rename, stat, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout } from 'node:timers/promises'
import { bytesRead } from './bytes-read.js'
import { TestParcel } from './parcels.js'

const SIZE = 24 * 1_048_576
/** Longer than the clock of any file system that a test runs on ticks. */
const TICK = 150

/** A parcel with a version of one large file that was settled when it was read. */
async function settled(t: Parameters<typeof TestParcel.create>[0]) {
  const test = await TestParcel.create(t)
  const disk = join(test.folder, 'disk')
  await writeFile(disk, randomBytes(SIZE))
  await setTimeout(TICK)
  const first = await test.commit()
  return { test, disk, first }
}

test('a file that looks unchanged is not read; full reads it', async (t) => {
  const { test, first } = await settled(t)
  let second = first
  const skipping = await bytesRead(async () => (second = await test.commit()))
  assert.ok(skipping < SIZE / 4, `${skipping} bytes read`)
  assert.deepEqual(second.version.table, first.version.table)
  const reading = await bytesRead(() => test.commit({}, test.folder, { roles: {}, scan: 'full' }))
  assert.ok(reading >= SIZE, `${reading} bytes read`)

  await test.reopen()
  const reopened = await bytesRead(() => test.commit())
  assert.ok(reopened < SIZE / 4, `${reopened} bytes read after a restart`)
})

test('what was written out is not read again either', async (t) => {
  const { test, first } = await settled(t)
  const to = join(test.dir, 'to')
  await test.checkOut(first, to)
  const read = await bytesRead(async () => {
    const known = await test.commit({}, to)
    assert.deepEqual(known.version.table.root, first.version.table.root)
  })
  assert.ok(read < SIZE / 4, `${read} bytes read`)
})

test('a change is seen although size and mtime are as they were', async (t) => {
  const { test, disk } = await settled(t)
  const { atime, mtime } = await stat(disk)
  const changes: (() => Promise<void>)[] = [
    async () => writeFile(disk, randomBytes(SIZE)),
    async () => {
      await writeFile(`${disk}.new`, randomBytes(SIZE))
      await rename(`${disk}.new`, disk)
    }
  ]
  for (const change of changes) {
    await change()
    await utimes(disk, atime, mtime)
    const known = await test.commit()
    const to = join(test.dir, 'to')
    await test.checkOut(known, to)
    assert.ok((await readFile(join(to, 'disk'))).equals(await readFile(disk)))
    await test.checkOut(known, test.folder)
  }
})

test('a file that is written within a tick of its being read is read again', async (t) => {
  const test = await TestParcel.create(t)
  const disk = join(test.folder, 'disk')
  for (let n = 0; n < 12; n++) {
    // Both writes of one size: nothing but the times could tell them apart.
    await writeFile(disk, Buffer.alloc(100_000, n))
    await test.commit()
    await writeFile(disk, Buffer.alloc(100_000, 100 + n))
    const known = await test.commit()
    await test.checkOut(known, join(test.dir, 'to'))
    assert.equal((await readFile(join(test.dir, 'to', 'disk')))[0], 100 + n)
    await test.checkOut(known, test.folder)
  }
})

test('another mode is stored, and comes back', async (t) => {
  const { test, disk } = await settled(t)
  await chmod(disk, 0o640)
  const known = await test.commit()
  await chmod(disk, 0o600)
  await test.checkOut(known, join(test.dir, 'to'))
  assert.equal((await stat(join(test.dir, 'to', 'disk'))).mode & 0o777, 0o640)
})

test('guest memory is read whatever its times say', async (t) => {
  const { test } = await settled(t)
  const roles = { disk: 'memory' as const }
  await test.commit({}, test.folder, { roles })
  const read = await bytesRead(() => test.commit({}, test.folder, { roles }))
  assert.ok(read >= SIZE, `${read} bytes read`)
})
