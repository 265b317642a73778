import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setImmediate } from 'node:timers/promises'
import { Batches } from '../../lib/batches.js'

/** Batches that are done when they are told to be. */
function held(limits: { items: number; size: number }) {
  const runs: { items: readonly number[]; end: () => void; fail: (error: Error) => void }[] = []
  const batches = new Batches(
    (items: readonly number[]) =>
      new Promise<number[]>((resolve, reject) => {
        runs.push({ items, end: () => resolve(items.map((item) => 2 * item)), fail: reject })
      }),
    limits
  )
  return { runs, batches, items: () => runs.map((run) => run.items) }
}

test('what is asked for in a turn goes together, and more is gathered while two are under way', async () => {
  const { runs, batches, items } = held({ items: 4, size: 100 })
  const results = [batches.add(1, 1), batches.add(2, 1)]
  assert.deepEqual(items(), [])
  await setImmediate()
  results.push(batches.add(3, 1))
  await setImmediate()
  results.push(batches.add(4, 1))
  await setImmediate()
  results.push(batches.add(5, 1))
  await setImmediate()
  assert.deepEqual(items(), [[1, 2], [3]])
  runs[1]?.end()
  await setImmediate()
  assert.deepEqual(items(), [[1, 2], [3], [4, 5]])
  runs[2]?.end()
  runs[0]?.end()
  assert.deepEqual(await Promise.all(results), [2, 4, 6, 8, 10])
})

test('a full batch goes at once, by number or by size', async () => {
  const { runs, batches, items } = held({ items: 3, size: 10 })
  const results = [1, 2, 3].map((item) => batches.add(item, 1))
  assert.deepEqual(items(), [[1, 2, 3]])
  results.push(batches.add(4, 6), batches.add(5, 5))
  assert.deepEqual(items(), [[1, 2, 3], [4]])
  // What is larger than all of a batch is one by itself.
  results.push(batches.add(6, 50), batches.add(7, 1))
  assert.deepEqual(items(), [[1, 2, 3], [4], [5], [6]])
  for (const { end } of runs) end()
  await setImmediate()
  runs.at(-1)?.end()
  assert.deepEqual(await Promise.all(results), [2, 4, 6, 8, 10, 12, 14])
})

test('a failure is that of all in the batch, and of no other', async () => {
  const { runs, batches } = held({ items: 2, size: 10 })
  const results = [1, 2, 3, 4].map((item) => batches.add(item, 1))
  runs[0]?.fail(new Error('broken'))
  runs[1]?.end()
  const settled = await Promise.allSettled(results)
  assert.deepEqual(
    settled.map(({ status }) => status),
    ['rejected', 'rejected', 'fulfilled', 'fulfilled']
  )
})
