import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import type { Host } from '../../lib/index.js'
import { eventually, TestHosts } from '../support/hosts.js'

const SIZE = 12_000_000

/** Bytes that went from a host to another, by name. */
async function sent(from: Host, to: Host): Promise<number> {
  const { peers } = await from.status('p')
  return peers.find(({ name }) => name === to.home.name)?.sent ?? 0
}

test('what is suspended goes first to where it is wanted next', { timeout: 120_000 }, async (t) => {
  const hosts = await TestHosts.start(t)
  const owner = await hosts.create('owner')
  const folder = join(hosts.dir, 'folder')
  await mkdir(folder)
  await writeFile(join(folder, 'file'), 'first')
  await owner.add(folder, { name: 'p', vm: 'folder' })
  await owner.suspend('p')
  const others: Host[] = []
  for (const name of ['desk', 'laptop']) {
    const host = await hosts.create(name)
    others.push(host)
    await host.join((await owner.invite('p')).invite)
    await eventually(
      async () => (await owner.status('p')).heads[0]?.holders.includes(name) || null,
      `${name} has it`
    )
  }
  await owner.limits.set({ between: null, up: 2_000_000, down: null, peerUp: null })
  const [desk, laptop] = others
  assert.ok(desk !== undefined && laptop !== undefined)
  for (const [first, second] of [
    [desk, laptop],
    [laptop, desk]
  ] as const) {
    await writeFile(join(folder, 'file'), randomBytes(SIZE))
    // Until it is said who comes first, whoever asks first would.
    for (const host of others) await host.pause('p', true)
    const { version } = await owner.suspend('p')
    const before = [await sent(owner, first), await sent(owner, second)] as const
    const safe = { version: version.id, on: first.home.name, timeout: 60_000 }
    const isSafe = owner.versions.safe('p', safe, async () => {})
    await Promise.all([second, first].map((host) => host.pause('p', false)))
    await isSafe
    const much = (await sent(owner, first)) - before[0]
    const little = (await sent(owner, second)) - before[1]
    t.diagnostic(`${first.home.name} was sent ${much} bytes, ${second.home.name} ${little}`)
    // It gives what it has to the other, which this host need not send.
    assert.ok(much > 0.7 * SIZE, 'who comes first was sent most of it')
    assert.ok(little < 0.5 * SIZE, 'the other was not')
    await eventually(
      async () => (await owner.status('p')).heads[0]?.holders.includes(second.home.name) || null,
      'the other has it too',
      60_000
    )
  }
})
