import assert from 'node:assert/strict'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import type { Newcomer } from '../../lib/index.js'
import { parseBootstrap } from '../../lib/swarm/dht.js'
import { Pairing } from '../../lib/swarm/pairing.js'
import { eventually, TestHosts } from '../support/hosts.js'
import { onEnd } from '../support/on-end.js'

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
  const malformed = ['', 'hello', '12', 'hyperparcel2.', 'hyperparcel2.AAAA', `x${'A'.repeat(100)}`]
  for (const invite of malformed) {
    await assert.rejects(async () => host.join(invite), { code: 'BAD_INVITE' })
  }
  await assert.rejects(async () => host.join('hyperparcel3.AAAA'), { code: 'NEWER_FORMAT' })
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

test('a number and two words let a host in, in whatever way they are typed', async (t) => {
  const hosts = await TestHosts.start(t)
  const inviter = await hostWithParcel(hosts)
  const host = await hosts.create('host')
  const { code } = await inviter.invite('p', { role: 'reader' })
  assert.match(code, /^\d+-[a-z]+-[a-z]+$/)
  const started = performance.now()
  await host.join(` ${code.toUpperCase().replaceAll('-', ' ')} `)
  await eventually(async () => (await host.log('p')).length > 0 || null, 'a version is seen')
  t.diagnostic(`${Math.round(performance.now() - started)} ms to the first version`)
  const { role, members } = await host.status('p')
  assert.deepEqual([role, members.length], ['reader', 2])
})

test('three wrong guesses end an invite, for the right words too', async (t) => {
  const hosts = await TestHosts.start(t)
  const inviter = await hostWithParcel(hosts)
  const host = await hosts.create('host')
  const { code, invite } = await inviter.invite('p')
  const [number] = code.split('-')
  for (let guess = 1; guess <= 3; guess++) {
    const wrong = `${number}-zebra-${guess === 1 ? 'zero' : 'zoo'}`
    await assert.rejects(async () => host.join(wrong, { timeout: 3_000 }), { code: 'BAD_KEY' })
    assert.equal(inviter.openInvites, guess < 3 ? 1 : 0)
  }
  for (const late of [code, invite]) {
    await assert.rejects(async () => host.join(late, { timeout: 1_500 }), { code: 'UNREACHABLE' })
  }
  assert.equal((await inviter.status('p')).members.length, 1)
})

test('who is not approved is not let in, and what is seen of it is true', async (t) => {
  const hosts = await TestHosts.start(t)
  const inviter = await hostWithParcel(hosts)
  const host = await hosts.create('host')
  const seen: Newcomer[] = []
  const approve = async (newcomer: Newcomer): Promise<boolean> => {
    seen.push(newcomer)
    return seen.length > 1
  }
  const first = await inviter.invite('p', { approve })
  await assert.rejects(async () => host.join(first.code), { code: 'BAD_KEY' })
  assert.equal((await inviter.status('p')).members.length, 1)
  const second = await inviter.invite('p', { approve })
  await host.join(second.invite)
  const { id, name, words } = host
  assert.deepEqual(seen, [
    { id, name, words },
    { id, name, words }
  ])
  assert.match(words, /^([a-z]+ ){4}[a-z]+$/)
})

test('a listener in between, and one who squats on a number, get nothing', async (t) => {
  const hosts = await TestHosts.start(t)
  const inviter = await hostWithParcel(hosts)
  const host = await hosts.create('host')
  const squatter = await hosts.create('squatter')
  const { code } = await inviter.invite('p')
  const [number = ''] = code.split('-')
  // It answers at the same number, with words of its own.
  const other = new Pairing(squatter.home.identity, parseBootstrap(hosts.dht.address), Date.now)
  onEnd(t, () => other.close())
  await other.invite({
    ttl: 60_000,
    number: Number(number),
    approve: async () => true,
    admit: async () => assert.fail('it has let somebody in')
  })
  await host.join(code)
  assert.equal((await inviter.status('p')).members.length, 2)
})

test('a link lets another machine into all parcels of an owner, as an owner', async (t) => {
  const hosts = await TestHosts.start(t)
  const inviter = await hostWithParcel(hosts)
  const second = join(hosts.dir, 'second')
  await mkdir(second)
  await inviter.add(second, { name: 'second', vm: 'folder' })
  const other = await hosts.create('other')
  await assert.rejects(other.link(), { code: 'FORBIDDEN' })
  const { code, parcels } = await inviter.link()
  assert.deepEqual(parcels, ['p', 'second'])
  const joined = await other.joinAll(code)
  assert.deepEqual(
    joined.map(({ name }) => name),
    ['p', 'second']
  )
  await eventually(async () => (await other.status('second')).role, 'it knows who it is')
  assert.equal((await other.status('p')).role, 'owner')
  await eventually(async () => (await other.log('p')).length > 0 || null, 'a version is seen')
  // An owner of them all: it can let in a third.
  const third = await hosts.create('third')
  assert.equal((await third.join((await other.link()).invite)).name, 'p')
})
