import assert from 'node:assert/strict'
import { randomBytes, randomInt } from 'node:crypto'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { decompress } from '../../lib/chunk/compress.js'
import { chunkId, pageHash } from '../../lib/chunk/id.js'
import { decodePack, rawLength } from '../../lib/format/pack.js'
import type { Log } from '../../lib/log/log.js'
import { Task } from '../../lib/progress.js'
import { TestParcel } from './parcels.js'
import { assertSame, snapshot } from './trees.js'

/** Every pack opens and every item in it has its id. */
async function verify(log: Log): Promise<void> {
  for (let block = 1; block < log.length; block++) {
    const { kind, codec, items, frame } = decodePack(await log.read(block))
    const raw = await decompress(codec, frame, rawLength(items))
    let at = 0
    for (const { id, length } of items) {
      const bytes = raw.subarray(at, (at += length))
      assert.ok(id.equals(kind === 'chunks' ? chunkId(bytes) : pageHash(bytes)))
    }
  }
}

async function fill(folder: string): Promise<void> {
  await mkdir(join(folder, 'small'), { recursive: true })
  await writeFile(join(folder, 'disk'), randomBytes(randomInt(1, 12 * 1_048_576)))
  for (let n = 0; n < 60; n++) {
    await writeFile(join(folder, 'small', `${n}`), randomBytes(randomInt(100_000)))
  }
}

test('a commit that is aborted anywhere leaves no version, and the next one is whole', async (t) => {
  const test = await TestParcel.create(t)
  await fill(test.folder)
  const first = await test.commit()
  let made = 1
  let aborted = 0
  for (let n = 0; n < 14; n++) {
    await fill(test.folder)
    const abort = new AbortController()
    const at = randomInt(16 * 1_048_576)
    const report = ({ done }: { done: number }): void => {
      if (done >= at && !abort.signal.aborted) abort.abort()
    }
    if (n % 4 === 0) setTimeout(() => abort.abort(), randomInt(150))
    try {
      await test.commit({ report, signal: abort.signal })
      made++
    } catch (error) {
      assert.ok(abort.signal.aborted, String(error))
      aborted++
    }
    assert.equal(test.parcel.history.size, made)
    if (n % 5 === 4) await test.reopen()
    assert.equal(test.parcel.history.size, made, 'after reopening')
  }
  t.diagnostic(`${aborted} aborted, ${made - 1} done before`)
  const files = await snapshot(test.folder)
  const last = await test.commit()
  const to = join(test.dir, 'to')
  await test.checkOut(last, to)
  assertSame(await snapshot(to), files)
  await test.checkOut(first, to)
  for (const log of test.data()) await verify(log)
  assert.deepEqual(test.parcel.problems, [])
})

test('a task that is cancelled is INTERRUPTED', async (t) => {
  const test = await TestParcel.create(t)
  await fill(test.folder)
  const before = new Task((work) => test.commit(work))
  before.cancel()
  await assert.rejects(async () => before, { code: 'INTERRUPTED' })
  const known = await test.commit()
  const out = new Task((work) => test.checkOut(known, join(test.dir, 'to'), work))
  out.cancel()
  await assert.rejects(async () => out, { code: 'INTERRUPTED' })
})

test('a folder that is gone is an error, and the parcel goes on', async (t) => {
  const test = await TestParcel.create(t)
  await assert.rejects(test.commit({}, join(test.dir, 'nowhere')), { code: 'FAILED' })
  await writeFile(join(test.folder, 'a'), 'a')
  assert.equal((await test.commit()).version.totals.files, 1)
  assert.equal(test.parcel.folder.path, test.folder)
})
