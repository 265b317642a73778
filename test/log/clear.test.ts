import assert from 'node:assert/strict'
import { test } from 'node:test'
import { openStore, aKeyring, aLog } from './stores.js'

test('what is dropped or forgotten takes no proof from a block that stays', async (t) => {
  for (const [length, ranges] of [
    [16, [[5, 6]]],
    [16, [[10, 14]]],
    [16, [[5, 12]]],
    [
      23,
      [
        [1, 2],
        [7, 8],
        [20, 22]
      ]
    ],
    [
      100,
      [
        [33, 64],
        [65, 66],
        [90, 99]
      ]
    ],
    [7, [[3, 6]]]
  ] as const) {
    const { dir, store, log, keyPair } = await aLog(t)
    await log.append(Array.from({ length }, (_, n) => [Buffer.alloc(50, n)]))
    for (const [start, end] of ranges) {
      if (end === start + 1) await log.forget(start)
      else await log.drop([{ start, end }])
    }
    const gone = (index: number): boolean =>
      ranges.some(([start, end]) => index >= start && index < end)
    const check = async (of: typeof log): Promise<void> => {
      for (let index = 0; index < length; index++) {
        const proved = await of.prove(index)
        const what = `block ${index} of ${length} without ${JSON.stringify(ranges)}`
        assert.equal(proved?.state ?? 'gone', gone(index) ? 'gone' : 'proved', what)
      }
    }
    await check(log)
    await store.flush()
    await store.close()
    const again = await openStore(t, dir)
    await check(await again.own('data', keyPair, aKeyring()))
  }
})

test('nor at the moment at which it is dropped or forgotten', async (t) => {
  const { log } = await aLog(t)
  const length = 64
  await log.append(Array.from({ length }, (_, n) => [Buffer.alloc(50, n)]))
  let isOver = false
  const proving = Array.from({ length: 4 }, async () => {
    while (!isOver) {
      for (let index = 2; index < length; index += 4) {
        assert.equal((await log.prove(index))?.state, 'proved', `block ${index}`)
      }
    }
  })
  for (let index = 3; index < length - 1; index += 4) {
    await Promise.all([log.forget(index), log.drop([{ start: index + 1, end: index + 2 }])])
  }
  isOver = true
  await Promise.all(proving)
})
