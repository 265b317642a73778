import assert from 'node:assert/strict'
import { test } from 'node:test'
import { RateLimit } from '../../lib/log/rate-limit.js'

test('what goes in a while is the rate times that while, in the order of asking', async () => {
  const limit = new RateLimit()
  // Nobody waits without a rate, whatever went.
  limit.spend(1_000_000_000)
  await limit.turn()
  limit.rate = 1_000_000
  const began = performance.now()
  const order: number[] = []
  await Promise.all(
    [0, 1, 2, 3, 4].map(async (n) => {
      await limit.run(async () => {
        limit.spend(500_000)
        order.push(n)
      })
    })
  )
  // The first three are the burst of a second and what is being sent; each of the others waits.
  const seconds = (performance.now() - began) / 1_000
  assert.deepEqual(order, [0, 1, 2, 3, 4])
  assert.ok(seconds > 0.9, `${seconds} s`)
})

test('who waits goes on when the rate is raised', async () => {
  const limit = new RateLimit()
  limit.rate = 1
  limit.spend(1_000_000)
  let isOver = false
  const waiting = limit.turn().then(() => (isOver = true))
  await new Promise((resolve) => setTimeout(resolve, 50))
  assert.equal(isOver, false)
  limit.rate = Infinity
  await waiting
})

test('what is owed is bounded, and waited for without waking all the time', async () => {
  const limit = new RateLimit()
  limit.rate = 1_000_000_000
  limit.spend(1_000_000_000_000)
  limit.rate = 1
  const began = process.cpuUsage()
  let isOver = false
  const waiting = limit.turn().then(() => (isOver = true))
  await new Promise((resolve) => setTimeout(resolve, 1_000))
  const { user, system } = process.cpuUsage(began)
  assert.equal(isOver, false)
  assert.ok(user + system < 300_000, `${user + system} us of CPU in a second`)
  limit.rate = Infinity
  await waiting
})
