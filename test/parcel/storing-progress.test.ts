import assert from 'node:assert/strict'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test, type TestContext } from 'node:test'
import { setTimeout } from 'node:timers/promises'
import { WorkerPool } from '../../lib/chunk/worker-pool.js'
import { StoringProgress } from '../../lib/parcel/commit/storing-progress.js'
import type { Progress } from '../../lib/progress.js'
import { onEnd } from '../support/on-end.js'
import { scratch } from '../support/scratch.js'

async function aFolder(t: TestContext) {
  const pool = new WorkerPool()
  onEnd(t, () => pool.close())
  const dir = await scratch(t)
  await writeFile(join(dir, 'file'), 'x'.repeat(8_192))
  const seen: Progress[] = []
  const { signal } = new AbortController()
  const work = { report: (one: Progress) => void seen.push(one), note: () => {}, signal }
  return { pool, dir, seen, work }
}

test('what is stored before the folder is measured is shown when it is', async (t) => {
  const { pool, dir, seen, work } = await aFolder(t)
  const progress = new StoringProgress(work, dir, pool)
  progress.add(4_096)
  assert.deepEqual(seen, [])
  while (seen.length === 0) await setTimeout(5)
  assert.deepEqual(seen, [{ step: 'storing', done: 4_096, total: 8_192, unit: 'bytes' }])
  progress.add(4_096)
  progress.finish()
  await progress.end()
  assert.equal(seen.length, 2)
})

test('what is stored sooner than the folder is measured is shown at the end', async (t) => {
  const { pool, dir, seen, work } = await aFolder(t)
  const progress = new StoringProgress(work, dir, pool)
  progress.add(8_192)
  progress.finish()
  await progress.end()
  assert.deepEqual(seen, [{ step: 'storing', done: 8_192, total: 8_192, unit: 'bytes' }])
})

test('what ends in the middle is not said to be all', async (t) => {
  const { pool, dir, seen, work } = await aFolder(t)
  const progress = new StoringProgress(work, dir, pool)
  progress.add(4_096)
  await progress.end()
  assert.deepEqual(seen, [])
})
