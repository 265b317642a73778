import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setImmediate } from 'node:timers/promises'
import { aLog } from './stores.js'

test('a wait for a block that nobody sends ends when it is called off, at whatever moment', async (t) => {
  const { log } = await aLog(t)
  await log.append(Array.from({ length: 40 }, (_, n) => [Buffer.alloc(10, n)]))
  for (let index = 0; index < 39; index++) await log.forget(index)
  for (let round = 0; round < 300; round++) {
    const stop = new AbortController()
    const reading = assert.rejects(log.read(round % 39, { wait: stop.signal }), {
      code: 'UNREACHABLE'
    })
    for (let n = 0; n < round % 7; n++) await (n % 2 === 0 ? Promise.resolve() : setImmediate())
    stop.abort()
    await reading
    assert.equal(log.isRead, false)
  }
})
