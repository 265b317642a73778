import { execFileSync } from 'node:child_process'
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import {
  chmod,
  link,
  lstat,
  mkdir,
  open,
  readFile,
  rename,
  rm,
  symlink,
  utimes,
  writeFile
} from 'node:fs/promises'
import { join } from 'node:path'
import { test, type TestContext } from 'node:test'
import * as fc from 'fast-check'
import { CHUNK_SIZE } from '../../lib/format/limits.js'
import { writeSparse } from '../chunk/sparse.js'
import { ParcelError } from '../../lib/errors.js'
import { FileStamps } from '../../lib/parcel/commit/file-stamps.js'
import type { Known } from '../../lib/parcel/history.js'
import { TestParcel, WORK } from './parcels.js'
import { assertSame, snapshot } from './trees.js'

const MIB = 1_048_576

/** What is written into a file after its version was made. */
type Edit = { at: number; bytes: number } | { size: number }

const edit: fc.Arbitrary<Edit> = fc.oneof(
  fc.record({ at: fc.nat(450_000), bytes: fc.constantFrom(1, 4_096, 100_000) }),
  fc.record({ size: fc.nat(500_000) })
)
const instead = fc.constantFrom('a folder', 'a link', 'a pipe', ...Array<null>(6).fill(null))

async function make(path: string, edits: readonly Edit[]): Promise<void> {
  const handle = await open(path, 'r+')
  for (const edit of edits) {
    if ('size' in edit) await handle.truncate(edit.size)
    else await handle.write(Buffer.alloc(edit.bytes, 7), 0, edit.bytes, edit.at)
  }
  await handle.close()
}

async function replace(path: string, by: string): Promise<void> {
  await rm(path)
  if (by === 'a folder') await mkdir(path)
  else if (by === 'a link') await symlink('other', path)
  else execFileSync('mkfifo', [path])
}

test('whatever became of a large file, its version replaces it exactly', async (t) => {
  const test = await TestParcel.create(t)
  await writeFile(join(test.folder, 'other'), randomBytes(300_000))
  const pattern = fc.array(fc.boolean(), { minLength: 17, maxLength: 110 })
  const edits = fc.array(edit, { maxLength: 6 })
  await fc.assert(
    fc.asyncProperty(pattern, fc.nat(4_095), edits, instead, async (pages, missing, edits, by) => {
      const path = join(test.folder, 'disk')
      await rm(path, { recursive: true, force: true })
      await writeSparse(path, pages, pages.length * 4_096 - missing)
      const expected = await snapshot(test.folder)
      const known = await test.commit()
      await make(path, edits)
      if (by !== null) await replace(path, by)
      await test.checkOut(known, test.folder)
      assertSame(await snapshot(test.folder), expected)
    }),
    { numRuns: 25 }
  )
})

/** A version of a large file and small ones, of which the log has lost what is in the large one. */
async function withoutBlocks(t: TestContext): Promise<{ test: TestParcel; known: Known }> {
  const test = await TestParcel.create(t)
  await writeFile(join(test.folder, 'disk'), randomBytes(3 * MIB))
  await writeFile(join(test.folder, 'small'), 'small')
  await mkdir(join(test.folder, 'sub'))
  await writeFile(join(test.folder, 'sub', 'small'), 'small')
  const known = await test.commit()
  // What a check-out has written is known by its times at once, what was just read may be mapped still.
  await test.checkOut(known, test.folder)
  const [log] = test.data()
  assert.ok(log)
  for (const block of [0, 1, 2]) await log.forget(block)
  await assert.rejects(test.checkOut(known, join(test.dir, 'copy')), { code: 'UNREACHABLE' })
  return { test, known }
}

async function inodes(test: TestParcel, names: readonly string[]): Promise<bigint[]> {
  const stats = names.map((name) => lstat(join(test.folder, name), { bigint: true }))
  return (await Promise.all(stats)).map(({ ino }) => ino)
}

/** Files of which a look at their times does not tell that they are as their version has them. */
async function looked(test: TestParcel, known: Known): Promise<string[]> {
  const { home, identity, parcel } = test
  const stamps = await FileStamps.load(join(home, 'parcels'), identity.atRest, parcel.id, known.id)
  const unknown: string[] = []
  let n = 0
  for await (const { entry } of test.parcel.files.contents(known)) {
    if (entry.type !== 'file') continue
    const stats = await lstat(join(test.folder, entry.path.toString()), { bigint: true })
    const stamp = stamps.at(n++)
    if (stamp?.ino !== stats.ino || stamp.ctime !== stats.ctimeNs) unknown.push(String(entry.path))
  }
  return unknown
}

test('chunks that the folder has are not read from the log; one that was changed is', async (t) => {
  const { test, known } = await withoutBlocks(t)
  const expected = await snapshot(test.folder)
  const [disk, now] = [join(test.folder, 'disk'), new Date()]
  // Its time is another, so it is not the file itself that stays.
  await utimes(disk, now, now)
  const [before] = await inodes(test, ['disk'])
  await test.checkOut(known, test.folder)
  assertSame(await snapshot(test.folder), expected)
  assert.notEqual((await inodes(test, ['disk']))[0], before)
  const handle = await open(disk, 'r+')
  await handle.write('!', CHUNK_SIZE * 5 + 1)
  await handle.close()
  const changed = await snapshot(test.folder)
  await assert.rejects(test.checkOut(known, test.folder), { code: 'UNREACHABLE' })
  assertSame(await snapshot(test.folder), changed)
})

test('files that are as both versions have them stay, and are known again', async (t) => {
  const { test, known } = await withoutBlocks(t)
  const expected = await snapshot(test.folder)
  const before = await inodes(test, ['disk', 'small'])
  const steps: string[] = []
  await test.checkOut(known, test.folder, { report: ({ step }) => steps.push(step) })
  assert.ok(!steps.includes('writing'), 'nothing is written')
  assertSame(await snapshot(test.folder), expected)
  assert.deepEqual(await inodes(test, ['disk', 'small']), before)
  assert.deepEqual(await looked(test, known), [])
  // Once more: what is known of them has not suffered.
  await test.checkOut(known, test.folder)
  assert.deepEqual(await inodes(test, ['disk', 'small']), before)
  const { version } = await test.commit()
  assert.ok(version.totals.stored < CHUNK_SIZE, `${version.totals.stored} bytes stored`)
})

test('what has another name, too, or was written to, does not stay', async (t) => {
  const { test, known } = await withoutBlocks(t)
  const expected = await snapshot(test.folder)
  const other = join(test.dir, 'other')
  await link(join(test.folder, 'small'), other)
  await test.checkOut(known, test.folder)
  assertSame(await snapshot(test.folder), expected)
  await writeFile(other, 'other')
  assert.equal(await readFile(join(test.folder, 'small'), 'utf8'), 'small')
  // Of the same length, and with the time of before.
  const small = join(test.folder, 'small')
  const { mtime } = await lstat(small)
  await writeFile(small, 'SMALL')
  await utimes(small, mtime, mtime)
  const [, written] = await inodes(test, ['disk', 'small'])
  await test.checkOut(known, test.folder)
  assertSame(await snapshot(test.folder), expected)
  assert.notEqual((await inodes(test, ['small']))[0], written)
})

test('a check-out that is refused at the end leaves all as it was', async (t) => {
  const { test, known } = await withoutBlocks(t)
  const expected = await snapshot(test.folder)
  const before = await inodes(test, ['disk', 'small'])
  const hows = [{ beforeSwap: refuse }, { beforeSwap: agree, afterSwap: refuse }]
  for (const how of hows) {
    const refused = test.parcel.files.checkOut(known, test.folder, { served: null, ...how }, WORK)
    await assert.rejects(refused, { code: 'CONFLICT' })
  }
  assertSame(await snapshot(test.folder), expected)
  assert.deepEqual(await inodes(test, ['disk', 'small']), before)
  for (const name of ['disk', 'small']) {
    assert.equal((await lstat(join(test.folder, name))).nlink, 1)
  }
  // And what is known of it: nothing has to be read again.
  assert.deepEqual(await looked(test, known), [])
})

test('a folder that was moved away, with a link in its place, shares nothing with the new one', async (t) => {
  const { test, known } = await withoutBlocks(t)
  const expected = await snapshot(test.folder)
  const away = join(test.dir, 'away')
  await rename(join(test.folder, 'sub'), away)
  await symlink(away, join(test.folder, 'sub'))
  await test.checkOut(known, test.folder)
  assertSame(await snapshot(test.folder), expected)
  assert.equal((await lstat(join(away, 'small'))).nlink, 1)
  await writeFile(join(away, 'small'), 'other')
  assertSame(await snapshot(test.folder), expected)
})

test('what is written to a file that stays, after the last look, is seen the next time', async (t) => {
  const { test, known } = await withoutBlocks(t)
  const small = join(test.folder, 'small')
  const { mtime } = await lstat(small)
  const afterSwap = async (): Promise<void> => {
    await writeFile(small, 'SMALL')
    await utimes(small, mtime, mtime)
    await chmod(join(test.folder, 'sub', 'small'), 0o600)
  }
  const how = { served: null, beforeSwap: agree, afterSwap }
  await test.parcel.files.checkOut(known, test.folder, how, WORK)
  assert.deepEqual(await looked(test, known), ['small', 'sub/small'])
  const { version } = await test.commit()
  assert.notDeepEqual(version.table.root, known.version.table.root)
})

async function agree(): Promise<void> {}

async function refuse(): Promise<void> {
  throw new ParcelError('CONFLICT', 'no')
}
