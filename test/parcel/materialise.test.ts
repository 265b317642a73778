import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { chmod, mkdir, readFile, readdir, rename, rm, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test, type TestContext } from 'node:test'
import type { Known } from '../../lib/parcel/history.js'
import { onEnd } from '../support/on-end.js'
import { TestParcel } from './parcels.js'
import { assertSame, snapshot, type Snapshot } from './trees.js'

interface Setting {
  test: TestParcel
  known: Known
  files: Snapshot
  /** A folder that holds only the folder to write, `to`. */
  parent: string
  to: string
}

async function setting(t: TestContext): Promise<Setting> {
  const test = await TestParcel.create(t)
  await mkdir(join(test.folder, 'sub'))
  await writeFile(join(test.folder, 'disk'), randomBytes(3 * 1_048_576))
  for (let n = 0; n < 20; n++) await writeFile(join(test.folder, 'sub', `${n}`), randomBytes(5_000))
  await chmod(join(test.folder, 'sub'), 0o500)
  const known = await test.commit()
  const parent = join(test.dir, 'parent')
  await mkdir(parent)
  return { test, known, files: await snapshot(test.folder), parent, to: join(parent, 'to') }
}

/** Something else at `to`, also what cannot be removed at once. */
async function occupy(to: string): Promise<Snapshot> {
  await mkdir(join(to, 'read-only'), { recursive: true })
  await writeFile(join(to, 'old'), 'old')
  await writeFile(join(to, 'read-only', 'x'), 'x')
  await chmod(join(to, 'read-only'), 0o500)
  return snapshot(to)
}

async function isLeft(parent: string, names: string[]): Promise<void> {
  assert.deepEqual(await readdir(parent), names)
}

test('what was at the destination is replaced, be it a folder, a file or a link', async (t) => {
  const { test, known, files, parent, to } = await setting(t)
  const before = [
    () => occupy(to),
    () => writeFile(to, 'a file'),
    () => symlink(test.folder, to),
    () => symlink('nowhere', to)
  ]
  for (const make of before) {
    await rm(to, { recursive: true, force: true })
    await make()
    await test.checkOut(known, to)
    assertSame(await snapshot(to), files)
    await isLeft(parent, ['to'])
    assert.equal(test.parcel.folder.path, to)
  }
  // What the link pointed to is as it was.
  assertSame(await snapshot(test.folder), files)
  await test.checkOut(known, join(parent, 'new', 'deep'))
  assertSame(await snapshot(join(parent, 'new', 'deep')), files)
})

test('what earlier tries left beside the destination is removed', async (t) => {
  const { test, known, files, parent, to } = await setting(t)
  await occupy(join(parent, '.to.hyperparcel-partial'))
  await occupy(join(parent, '.to.hyperparcel-previous'))
  await writeFile(join(parent, '.to.else'), '')
  await test.checkOut(known, to)
  assertSame(await snapshot(to), files)
  await isLeft(parent, ['.to.else', 'to'])
})

test('an aborted check-out leaves the old folder and nothing else', async (t) => {
  const { test, known, files, parent, to } = await setting(t)
  const old = await occupy(to)
  for (const at of [0, 1, 1_000_000, 3_000_000]) {
    const abort = new AbortController()
    const report = ({ done }: { done: number }): void => {
      if (done >= at) abort.abort()
    }
    if (at === 0) abort.abort()
    await assert.rejects(test.checkOut(known, to, { report, signal: abort.signal }))
    assertSame(await snapshot(to), old)
    await isLeft(parent, ['to'])
    assert.equal(test.parcel.folder.path, test.folder)
  }
  await test.checkOut(known, to)
  assertSame(await snapshot(to), files)
})

/** A small file system at `parent`; null with a reason where it cannot be mounted. */
function mounted(t: TestContext, parent: string, options: string): boolean {
  if (process.platform !== 'linux' || process.getuid?.() !== 0) {
    t.skip('a small file system needs root on Linux')
    return false
  }
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', options, 'tmpfs', parent], { stdio: 'pipe' })
  } catch (error) {
    t.skip(`cannot mount a tmpfs here: ${String(error)}`)
    return false
  }
  onEnd(t, () => execFileSync('umount', [parent]))
  return true
}

test('a disk that is too small is DISK_FULL before anything is written', async (t) => {
  const { test, known, parent, to } = await setting(t)
  if (!mounted(t, parent, 'size=2m')) return
  const old = await occupy(to)
  await assert.rejects(test.checkOut(known, to), { code: 'DISK_FULL' })
  assertSame(await snapshot(to), old)
  await isLeft(parent, ['to'])
})

test('a disk that fills up in the middle is DISK_FULL and leaves the old folder', async (t) => {
  const { test, known, files, parent, to } = await setting(t)
  if (!mounted(t, parent, 'size=6m,nr_inodes=60')) return
  const old = await occupy(to)
  // No space: somebody else takes it when the first bytes are written.
  let isTaken = false
  const report = (): void => {
    if (isTaken) return
    isTaken = true
    execFileSync('dd', ['if=/dev/zero', `of=${join(parent, 'other')}`, 'bs=64k', 'count=70'], {
      stdio: 'pipe'
    })
  }
  await assert.rejects(test.checkOut(known, to, { report }), { code: 'DISK_FULL' })
  await rm(join(parent, 'other'))
  assertSame(await snapshot(to), old)
  await isLeft(parent, ['to'])
  // No inode for the last files.
  for (let n = 0; n < 40; n++) await writeFile(join(parent, `.${n}`), '')
  await assert.rejects(test.checkOut(known, to), { code: 'DISK_FULL' })
  for (let n = 0; n < 40; n++) await rm(join(parent, `.${n}`))
  assertSame(await snapshot(to), old)
  await isLeft(parent, ['to'])
  await test.checkOut(known, to)
  assertSame(await snapshot(to), files)
})

test('a folder that cannot be written to is an error, and what is there stays', async (t) => {
  const { test, known, parent } = await setting(t)
  const file = join(parent, 'file')
  await writeFile(file, 'stays')
  await assert.rejects(test.checkOut(known, join(file, 'to')), { code: 'FAILED' })
  assert.equal(await readFile(file, 'utf8'), 'stays')
})

test('a crash between the two renames is put right at the next start', async (t) => {
  const { test, known, files, parent, to } = await setting(t)
  await test.checkOut(known, to)
  await rename(to, join(parent, '.to.hyperparcel-previous'))
  await mkdir(join(parent, '.to.hyperparcel-partial'))
  await test.reopen()
  assertSame(await snapshot(to), files)
  await test.checkOut(known, to)
  await isLeft(parent, ['to'])
})

test('a crash before the old folder was removed brings nothing old back', async (t) => {
  const { test, known, files, parent, to } = await setting(t)
  const empty = join(test.dir, 'empty')
  await mkdir(empty)
  const nothing = await test.commit({}, empty)
  for (const [version, expected] of [
    [known, files],
    [nothing, await snapshot(empty)]
  ] as const) {
    await test.checkOut(version, to)
    const previous = join(parent, '.to.hyperparcel-previous')
    await mkdir(previous, { recursive: true })
    await writeFile(join(previous, 'old'), 'old')
    await test.reopen()
    assertSame(await snapshot(to), expected)
  }
})
