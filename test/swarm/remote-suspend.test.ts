import assert from 'node:assert/strict'
import { mkdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test, type TestContext } from 'node:test'
import { setTimeout } from 'node:timers/promises'
import type { Host, MemberRole, ParcelError } from '../../lib/index.js'
import { eventually, twoHosts } from '../support/hosts.js'

/** The folder is on `home`, and has gone on since its version; `away` may do what its role says. */
async function setting(t: TestContext, role: MemberRole = 'runner') {
  const { one: home, other: away, ...rest } = await twoHosts(t, { names: ['home', 'away'], role })
  await writeFile(join(rest.folder, 'file'), 'second')
  return { home, away, ...rest }
}

const kinds = (host: Host): string[] => host.events.since(0).map(({ type }) => type)

test('what was left at home is suspended there from afar, and its version comes', async (t) => {
  const { home, away } = await setting(t)
  const { version } = await away.remoteSuspend.ask('p', 'home', { grace: 300, timeout: 20_000 })
  assert.equal(version.authorName, 'home')
  assert.equal(version.isHere, true)
  assert.equal(version.message, 'asked for by away')
  assert.deepEqual(
    (await away.status('p')).heads.map(({ id }) => id),
    [version.id]
  )
  for (const host of [home, away]) {
    const said = kinds(host).filter((kind) => kind.startsWith('suspend'))
    assert.deepEqual(said, ['suspend-asked', 'suspended'], host.name)
  }
})

test('its user there is told, and can keep it running', async (t) => {
  const { home, away } = await setting(t)
  const asking = away.remoteSuspend.ask('p', 'home', { grace: 60_000, timeout: 20_000 })
  const asked = await eventually(async () => (await home.status('p')).suspendAsked, 'the question')
  assert.equal(asked.host, 'away')
  assert.ok(asked.left > 50_000 && asked.left <= 60_000)
  assert.deepEqual(home.remoteSuspend.refuse('p'), { host: 'away' })
  await assert.rejects(Promise.resolve(asking), { code: 'RUNNING', message: /keeps "p" running/ })
  assert.equal((await home.status('p')).suspendAsked, null)
  assert.equal((await home.log('p')).length, 1)
  assert.throws(() => home.remoteSuspend.refuse('p'), { code: 'USAGE' })
  for (const host of [home, away]) assert.ok(kinds(host).includes('suspend-refused'), host.name)
})

test('a reader is refused, and both sides have it written down, also after a restart', async (t) => {
  const { hosts, home, away } = await setting(t, 'reader')
  await assert.rejects(
    Promise.resolve(away.remoteSuspend.ask('p', 'home', { grace: 0, timeout: 20_000 })),
    { code: 'FORBIDDEN' }
  )
  assert.equal((await home.log('p')).length, 1)
  assert.ok((await home.status('p')).problems.some((text) => /which it must not/.test(text)))
  for (const name of ['home', 'away']) {
    await hosts.stop(name)
    assert.ok(kinds(await hosts.open(name)).includes('suspend-refused'), name)
  }
})

test('a host that was shut out gets nothing: refused as long as it is connected, then not heard', async (t) => {
  const { home, away } = await setting(t)
  await home.revoke('p', 'away')
  const ask = () => away.remoteSuspend.ask('p', 'home', { grace: 0, timeout: 1_500 })
  // Until it has heard so it is told; afterwards there is no stream.
  await assert.rejects(Promise.resolve(ask()), ({ code }: ParcelError) =>
    ['FORBIDDEN', 'UNREACHABLE'].includes(code)
  )
  await eventually(async () => (await away.status('p')).peers.length === 0 || null, 'the end')
  await assert.rejects(Promise.resolve(ask()))
  assert.equal((await home.log('p')).length, 1)
  assert.ok(!kinds(home).includes('suspend-asked'))
})

test('who is not there is not waited for longer than was said; nor is this host itself', async (t) => {
  const { hosts, away } = await setting(t)
  await hosts.stop('home')
  const ask = (host: string) => away.remoteSuspend.ask('p', host, { grace: 0, timeout: 800 })
  await assert.rejects(Promise.resolve(ask('home')), { code: 'UNREACHABLE' })
  await assert.rejects(Promise.resolve(ask('away')), { code: 'USAGE' })
  await assert.rejects(Promise.resolve(ask('nobody')), { code: 'USAGE' })
})

test('what cannot be suspended there says why', async (t) => {
  const { away, folder } = await setting(t)
  await rm(folder, { recursive: true })
  await assert.rejects(
    Promise.resolve(away.remoteSuspend.ask('p', 'home', { grace: 0, timeout: 20_000 })),
    /home could not suspend "p"/
  )
})

test('two ask at once: one no is for both, one version is for both', async (t) => {
  const { hosts, home, away } = await setting(t)
  const third = await hosts.create('third')
  await third.join((await home.invite('p', { role: 'runner' })).invite)
  await eventually(async () => (await third.status('p')).heads[0]?.isHere || null, 'the first')
  const both = (grace: number) =>
    [away, third].map((host) => host.remoteSuspend.ask('p', 'home', { grace, timeout: 20_000 }))
  const refused = both(60_000)
  const outcomes = Promise.allSettled(refused)
  await eventually(async () => (await home.status('p')).suspendAsked, 'the question')
  await setTimeout(1_500)
  home.remoteSuspend.refuse('p')
  for (const outcome of await outcomes) {
    assert.equal(outcome.status, 'rejected')
    assert.match(String(outcome.reason), /keeps "p" running/)
  }
  await setTimeout(1_500)
  assert.equal((await home.status('p')).suspendAsked, null)
  const [one, other] = await Promise.all(both(1_500))
  assert.equal(one?.version.id, other?.version.id)
  assert.equal((await home.log('p')).length, 2)
})

test('whoever asked is shut out, or has gone, before the grace is over: nothing is suspended', async (t) => {
  const { home, away } = await setting(t)
  const gone = away.remoteSuspend.ask('p', 'home', { grace: 7_000, timeout: 20_000 })
  await eventually(async () => (await home.status('p')).suspendAsked, 'the question')
  gone.cancel()
  await assert.rejects(Promise.resolve(gone), { code: 'INTERRUPTED' })
  await eventually(async () => (await home.status('p')).suspendAsked === null || null, 'the end')
  const asking = away.remoteSuspend.ask('p', 'home', { grace: 2_000, timeout: 4_000 })
  const failed = assert.rejects(Promise.resolve(asking))
  await eventually(async () => (await home.status('p')).suspendAsked, 'the question')
  await home.revoke('p', 'away')
  await failed
  await eventually(async () => (await home.status('p')).suspendAsked === null || null, 'the end')
  assert.equal((await home.log('p')).length, 1)
})

test('events that cannot be written down stop nothing', async (t) => {
  const { hosts, home, away } = await setting(t)
  await mkdir(join(hosts.home('home'), 'events'))
  await away.remoteSuspend.ask('p', 'home', { grace: 0, timeout: 20_000 })
  assert.ok(kinds(home).includes('suspended'))
  await hosts.stop('home')
  assert.deepEqual(kinds(await hosts.open('home')), [])
})
