import assert from 'node:assert/strict'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { TestHosts } from '../support/hosts.js'

async function hostWithParcel(hosts: TestHosts, clock?: () => number) {
  const folder = join(hosts.dir, 'folder')
  await mkdir(folder)
  await writeFile(join(folder, 'a.txt'), 'a')
  const host = await hosts.create('inviter', clock)
  await host.add(folder, { name: 'p', vm: 'folder' })
  await host.suspend('p')
  return host
}

test('an invite lets one host in, and answers the same host again', async (t) => {
  const hosts = await TestHosts.start(t)
  const inviter = await hostWithParcel(hosts)
  const first = await hosts.create('first')
  const second = await hosts.create('second')
  const { invite } = await inviter.invite('p')

  const joined = await first.join(invite)
  assert.equal(joined.name, 'p')
  assert.equal(inviter.openInvites, 0)
  // The reply may have been lost: asking again is no harm.
  assert.equal((await first.join(invite)).id, joined.id)
  await assert.rejects(async () => second.join(invite), { code: 'INVITE_USED' })

  const { members } = await inviter.status('p')
  assert.deepEqual(
    members.map(({ role, id }) => [role, id]).toSorted(),
    [
      ['owner', inviter.id],
      ['runner', first.id]
    ].toSorted()
  )
})

test('an invite expires, by the clock of either side', async (t) => {
  const hosts = await TestHosts.start(t)
  let now = Date.now()
  const inviter = await hostWithParcel(hosts, () => now)
  const late = await hosts.create('late', () => now + 700_000)
  const slow = await hosts.create('slow', () => now - 700_000)
  const { invite } = await inviter.invite('p', { ttl: 600_000 })
  await assert.rejects(async () => late.join(invite), { code: 'INVITE_EXPIRED' })
  now += 601_001
  await assert.rejects(async () => slow.join(invite), { code: 'INVITE_EXPIRED' })
  assert.equal((await inviter.status('p')).members.length, 1)
})

test('a malformed invite is refused before anything is asked', async (t) => {
  const hosts = await TestHosts.start(t)
  const host = await hosts.create('host')
  for (const invite of ['', 'hello', 'hyperparcel1.', 'hyperparcel1.AAAA', `x${'A'.repeat(100)}`]) {
    await assert.rejects(async () => host.join(invite), { code: 'BAD_INVITE' })
  }
  await assert.rejects(async () => host.join('hyperparcel2.AAAA'), { code: 'NEWER_FORMAT' })
})

test('an inviter that is gone is said to be unreachable', async (t) => {
  const hosts = await TestHosts.start(t)
  const inviter = await hostWithParcel(hosts)
  const { invite } = await inviter.invite('p')
  await hosts.stop('inviter')
  const host = await hosts.create('host')
  await assert.rejects(async () => host.join(invite, { timeout: 1_500 }), { code: 'UNREACHABLE' })
  assert.deepEqual(await host.list(), [])
})
