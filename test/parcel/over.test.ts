import { execFileSync } from 'node:child_process'
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { cp, mkdir, open, rm, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { CHUNK_SIZE } from '../../lib/format/limits.js'
import { writeSparse } from '../chunk/sparse.js'
import { TestParcel } from './parcels.js'
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

test('what the folder has at the same place is not read from the log', async (t) => {
  const test = await TestParcel.create(t)
  const disk = randomBytes(3 * MIB)
  await writeFile(join(test.folder, 'disk'), disk)
  const known = await test.commit()
  const expected = await snapshot(test.folder)
  // As if the disk had lost them.
  const [log] = test.data()
  assert.ok(log)
  for (const block of [0, 1, 2]) await log.forget(block)
  const [copy, broken] = [join(test.dir, 'copy'), join(test.dir, 'broken')]
  await assert.rejects(test.checkOut(known, copy), { code: 'UNREACHABLE' })
  // Neither its inode nor its times tell anything.
  await cp(test.folder, copy, { recursive: true })
  await test.checkOut(known, copy)
  assertSame(await snapshot(copy), expected)
  disk[CHUNK_SIZE * 5 + 1] = ~(disk[CHUNK_SIZE * 5 + 1] ?? 0)
  await mkdir(broken)
  await writeFile(join(broken, 'disk'), disk)
  const before = await snapshot(broken)
  await assert.rejects(test.checkOut(known, broken), { code: 'UNREACHABLE' })
  assertSame(await snapshot(broken), before)
})
