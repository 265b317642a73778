import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { mkdir, open, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import * as fc from 'fast-check'
import type { Known } from '../../lib/parcel/history.js'
import { TestParcel } from './parcels.js'
import { assertSame, build, snapshot, tree, type Snapshot } from './trees.js'

test('any folder comes back: tree, bytes, modes, times, links and holes; old versions too', async (t) => {
  const test = await TestParcel.create(t)
  const versions: { known: Known; files: Snapshot }[] = []
  const to = join(test.dir, 'to')
  await fc.assert(
    fc.asyncProperty(tree, async (folder) => {
      await rm(test.folder, { recursive: true, force: true })
      await mkdir(test.folder)
      await build(Buffer.from(test.folder), folder)
      const files = await snapshot(test.folder)
      const known = await test.commit()
      await test.checkOut(known, to)
      assertSame(await snapshot(to), files)
      versions.push({ known, files })
    }),
    { numRuns: 25 }
  )
  await test.reopen()
  assert.equal(test.parcel.history.size, versions.length)
  for (const { known, files } of versions.filter((_, n) => n % 6 === 0)) {
    await test.checkOut(known, to)
    assertSame(await snapshot(to), files)
  }
})

test('an unchanged folder stores next to nothing, a changed byte about one chunk', async (t) => {
  const test = await TestParcel.create(t)
  const disk = join(test.folder, 'disk')
  const size = 20 * 1_048_576
  await writeFile(disk, randomBytes(size))
  await mkdir(join(test.folder, 'more'))
  for (let n = 0; n < 200; n++) await writeFile(join(test.folder, 'more', `${n}`), `${n}`)
  const first = await test.commit()
  assert.ok(first.version.totals.stored > size)

  const unchanged = await test.commit()
  assert.ok(unchanged.version.totals.stored < 4_096, `${unchanged.version.totals.stored} bytes`)
  assert.deepEqual(unchanged.version.table, first.version.table)

  await test.reopen()
  const reopened = await test.commit()
  assert.ok(reopened.version.totals.stored < 4_096, `${reopened.version.totals.stored} bytes`)

  const handle = await open(disk, 'r+')
  await handle.write(Buffer.from([1, 2]), 0, 2, size / 2)
  await handle.close()
  const { stored } = (await test.commit()).version.totals
  assert.ok(stored > 65_536 && stored < 65_536 + 32_768, `${stored} bytes`)

  // The folder as it was is in the log already.
  const to = join(test.dir, 'to')
  await test.checkOut(first, to)
  const back = await test.commit({}, to)
  assert.ok(back.version.totals.stored < 32_768, `${back.version.totals.stored} bytes`)
})

test('one chunk in many files, and in one file many times, is stored once', async (t) => {
  const test = await TestParcel.create(t)
  const chunk = randomBytes(65_536)
  const repeated = Buffer.concat(Array.from({ length: 100 }, () => chunk))
  for (const name of ['a', 'b', 'c']) await writeFile(join(test.folder, name), repeated)
  const known = await test.commit()
  assert.ok(known.version.totals.stored < 2 * 65_536, `${known.version.totals.stored} bytes`)
  const files = await snapshot(test.folder)
  await test.checkOut(known, join(test.dir, 'to'))
  assertSame(await snapshot(join(test.dir, 'to')), files)
})

test('what cannot be stored is named, the rest is', async (t) => {
  const test = await TestParcel.create(t)
  execFileSync('mkfifo', [join(test.folder, 'pipe')])
  await writeFile(join(test.folder, 'a'), 'a')
  const what = { path: test.folder, roles: {}, facts: {}, message: '', compress: true }
  const notes: string[] = []
  const { skipped, version } = await test.parcel.author.commit(
    { ...what, exclude: (path) => path === 'a' },
    { report() {}, note: (text) => notes.push(text), signal: new AbortController().signal }
  )
  assert.deepEqual(skipped, [{ path: 'pipe', why: 'not a file, folder or symlink' }])
  assert.equal(notes.length, 1)
  assert.equal(version.version.totals.files, 0)
})
