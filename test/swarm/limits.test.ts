import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test, type TestContext } from 'node:test'
import { setTimeout } from 'node:timers/promises'
import type { Host } from '../../lib/index.js'
import { eventually, twoHosts } from '../support/hosts.js'

const MB = 1_000_000

/** Two hosts, and a version of so many bytes on the first. */
async function setting(t: TestContext) {
  const { hosts, one: desk, other: laptop, folder } = await twoHosts(t)
  const suspend = async (bytes: number): Promise<string> => {
    await writeFile(join(folder, 'file'), randomBytes(bytes))
    return (await desk.suspend('p')).version.id
  }
  return { hosts, desk, laptop, suspend }
}

/** Waits until a version is whole on a host. */
async function whole(host: Host, id: string): Promise<void> {
  await eventually(async () => {
    const head = (await host.status('p')).heads.find((each) => each.id === id)
    return head?.isHere || null
  }, 'all of it')
}

const none = { between: null, up: null, down: null, peerUp: null }

for (const which of ['up', 'down', 'peerUp', 'peerDown'] as const) {
  test(`a limit ${which} is kept, and lifted at once`, async (t) => {
    const { desk, laptop, suspend } = await setting(t)
    const at = which === 'down' || which === 'peerDown' ? laptop : desk
    await at.limits.set({ ...none, [which]: MB })
    const before = (await laptop.status('p')).peers[0]?.received ?? 0
    const id = await suspend(6 * MB)
    await setTimeout(2_000)
    const { peers, heads } = await laptop.status('p')
    assert.equal(heads[0]?.id, id, 'its record is there at once')
    // Two seconds, one of burst, and what was on its way.
    const came = (peers[0]?.received ?? 0) - before
    assert.ok(came < 5 * MB, `${came} bytes came in two seconds`)
    await at.limits.clear()
    await whole(laptop, id)
  })
}

test('paused, or on a metered link: records come, blocks do not, but for what is asked for', async (t) => {
  const { hosts, laptop, suspend } = await setting(t)
  await laptop.pause('p', true)
  assert.deepEqual(laptop.limits.info.paused, ['p'])
  const id = await suspend(2 * MB)
  await eventually(async () => (await laptop.status('p')).heads[0]?.id === id || null, 'its record')
  await setTimeout(500)
  assert.equal((await laptop.status('p')).heads[0]?.isHere, false)
  const to = join(hosts.dir, 'restored')
  await laptop.versions.restore('p', { to, version: id })
  await laptop.pause('p', false)
  await whole(laptop, id)

  await laptop.limits.setMetered(true)
  const next = await suspend(2 * MB)
  await eventually(async () => (await laptop.status('p')).heads[0]?.id === next || null, 'a record')
  await setTimeout(500)
  assert.equal((await laptop.status('p')).heads[0]?.isHere, false)
  // It is remembered.
  await hosts.stop('laptop')
  const again = await hosts.open('laptop')
  assert.equal(again.limits.info.isMetered, true)
  await setTimeout(1_500)
  assert.equal((await again.status('p')).heads[0]?.isHere, false)
  await again.limits.setMetered(false)
  await whole(again, next)
})

test('what was asked for and is called off is not sent later', async (t) => {
  const { desk, laptop, suspend } = await setting(t)
  await desk.limits.set({ ...none, up: MB })
  const id = await suspend(12 * MB)
  await setTimeout(2_000)
  await laptop.pause('p', true)
  await setTimeout(500)
  await desk.limits.clear()
  await setTimeout(1_500)
  const head = (await laptop.status('p')).heads.find((each) => each.id === id)
  assert.equal(head?.isHere, false)
  const { missing } = await laptop.status('p')
  assert.ok(missing.bytes > 4 * MB, `${missing.bytes} bytes are still to come`)
  await laptop.pause('p', false)
  await whole(laptop, id)
})

test('limits that are set at once are all in force, now and after a restart', async (t) => {
  const { hosts, desk } = await setting(t)
  const rules = Array.from({ length: 6 }, (_, n) => ({
    ...none,
    between: { from: n * 60, to: n * 60 + 30 },
    up: MB
  }))
  await Promise.all(rules.map((rule) => desk.limits.set(rule)))
  assert.deepEqual(desk.limits.info.rules, rules)
  const ended = [desk.limits.clear(), desk.limits.set({ ...none, up: 5 }), desk.limits.clear()]
  await Promise.all(ended)
  await hosts.stop('desk')
  assert.deepEqual((await hosts.open('desk')).limits.info.rules, [])
})

test('a link that is slow while more is wanted is held for weak: then records come, and no blocks', async (t) => {
  const { desk, laptop, suspend } = await setting(t)
  await desk.limits.set({ ...none, up: 200_000 })
  await laptop.limits.setWeakBelow(MB)
  assert.equal(laptop.limits.info.metered, null)
  await suspend(24 * MB)
  await eventually(() => laptop.limits.info.metered === 'by measure' || null, 'it is weak', 60_000)
  await desk.limits.clear()
  const next = await suspend(MB)
  await eventually(async () => (await laptop.status('p')).heads[0]?.id === next || null, 'a record')
  await setTimeout(1_000)
  assert.equal((await laptop.status('p')).heads[0]?.isHere, false)
  await laptop.limits.setWeakBelow(null)
  assert.equal(laptop.limits.info.metered, null)
  await whole(laptop, next)
})
