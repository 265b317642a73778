import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test, type TestContext } from 'node:test'
import { setTimeout } from 'node:timers/promises'
import type { Host, MemberRole } from '../../lib/index.js'
import { openHome } from '../../lib/index.js'
import { encodeSigned, signControl } from '../../lib/parcel/members/control.js'
import { inParcel } from '../parcel/parcels.js'
import { eventually, TestHosts } from '../support/hosts.js'

/** An owner with a folder of one version, and others that were let in. */
async function world(
  t: TestContext,
  others: Readonly<Record<string, MemberRole>>
): Promise<{ hosts: TestHosts; owner: Host; others: Record<string, Host>; folder: string }> {
  const hosts = await TestHosts.start(t)
  const owner = await hosts.create('owner')
  const folder = join(hosts.dir, 'folder')
  await mkdir(folder)
  await writeFile(join(folder, 'file'), 'one')
  await owner.add(folder, { name: 'p', vm: 'folder' })
  await owner.suspend('p')
  const opened: Record<string, Host> = {}
  for (const [name, role] of Object.entries(others)) {
    const host = await hosts.create(name)
    await host.join((await owner.invite('p', { role })).invite)
    opened[name] = host
  }
  return { hosts, owner, others: opened, folder }
}

async function newest(host: Host | undefined, message: string): Promise<void> {
  await eventually(async () => {
    const [version] = (await host?.log('p')) ?? []
    return (version?.message === message && version.isHere) || null
  }, `${host?.name} has "${message}"`)
}

test('each role may do what it is for', async (t) => {
  const { hosts, owner, others } = await world(t, { runner: 'runner', reader: 'reader' })
  const { runner, reader } = others
  assert.ok(runner && reader)
  for (const host of [runner, reader]) {
    await host.resume('p', { to: join(hosts.dir, `to-${host.name}`) })
    assert.equal(await readFile(join(hosts.dir, `to-${host.name}`, 'file'), 'utf8'), 'one')
    await assert.rejects(host.invite('p'), { code: 'FORBIDDEN' })
    await assert.rejects(host.revoke('p', 'owner'), { code: 'FORBIDDEN' })
    await assert.rejects(host.rotate('p'), { code: 'FORBIDDEN' })
    await writeFile(join(hosts.dir, `to-${host.name}`, 'file'), `by ${host.name}`)
  }
  await assert.rejects(async () => reader.suspend('p'), { code: 'FORBIDDEN' })
  await runner.suspend('p', { message: 'by runner' })
  await newest(owner, 'by runner')
  await newest(reader, 'by runner')
  const roles = (await owner.status('p')).members.map(({ name, role }) => `${name} ${role}`)
  assert.deepEqual(roles.toSorted(), ['owner owner', 'reader reader', 'runner runner'])
})

test('a host that is revoked gets nothing any more, and what it writes counts for nobody', async (t) => {
  const { hosts, owner, others, folder } = await world(t, { laptop: 'runner', desk: 'runner' })
  const { laptop, desk } = others
  assert.ok(laptop && desk)
  await laptop.resume('p', { to: join(hosts.dir, 'laptop') })
  await writeFile(join(hosts.dir, 'laptop', 'file'), 'two')
  await laptop.suspend('p', { message: 'two' })
  await newest(owner, 'two')
  await newest(desk, 'two')
  await assert.rejects(owner.revoke('p', 'owner'), { code: 'USAGE' })
  await assert.rejects(owner.revoke('p', 'nobody'), { code: 'USAGE' })
  const after = await owner.revoke('p', 'laptop')
  assert.equal(after.epoch, 1)
  assert.deepEqual(
    after.revoked.map(({ name, role, by }) => [name, role, by]),
    [['laptop', 'runner', 'owner']]
  )
  await eventually(
    async () => (await laptop.status('p')).peers.length === 0 || null,
    'it is let go'
  )
  await assert.rejects(async () => laptop.suspend('p'), { code: 'REVOKED' })
  await owner.resume('p', { to: folder, force: true })
  assert.equal(await readFile(join(folder, 'file'), 'utf8'), 'two')
  await writeFile(join(folder, 'file'), 'three')
  await owner.suspend('p', { message: 'three' })
  await newest(desk, 'three')
  await setTimeout(1_500)
  assert.deepEqual((await laptop.log('p')).map(({ message }) => message).toSorted(), ['', 'two'])
  for (const host of [owner, desk]) {
    assert.deepEqual(
      (await host.log('p')).map(({ message }) => message),
      ['three', 'two', '']
    )
    assert.ok((await host.status('p')).peers.every(({ host: id }) => id !== laptop.id))
  }
})

test('a host that was away when it was revoked brings nothing back', async (t) => {
  const { hosts, owner, others } = await world(t, { laptop: 'owner', desk: 'runner' })
  const { laptop, desk } = others
  assert.ok(laptop && desk)
  await laptop.resume('p', { to: join(hosts.dir, 'laptop') })
  await newest(desk, '')
  await hosts.stop('laptop')
  await owner.revoke('p', 'laptop')
  await eventually(async () => (await desk.status('p')).epoch === 1 || null, 'desk knows')
  await hosts.stop('owner')
  await hosts.stop('desk')
  // It has not heard of it, and goes on as an owner, alone.
  const alone = await hosts.open('laptop')
  await alone.rotate('p')
  await writeFile(join(hosts.dir, 'laptop', 'file'), 'mine')
  await alone.suspend('p', { message: 'mine' })
  await hosts.stop('laptop')
  const [again, first, second] = [
    await hosts.open('laptop'),
    await hosts.open('owner'),
    await hosts.open('desk')
  ]
  await setTimeout(2_000)
  for (const host of [first, second]) {
    const { members, revoked, peers } = await host.status('p')
    assert.deepEqual(members.map(({ name }) => name).toSorted(), ['desk', 'owner'])
    assert.equal(revoked.length, 1)
    assert.ok(peers.every(({ host: id }) => id !== again.id))
    assert.equal((await host.log('p')).length, 1)
  }
})

test('who comes after a new epoch reads what was before, and who was away catches up', async (t) => {
  const { hosts, owner, others, folder } = await world(t, { desk: 'runner' })
  const { desk } = others
  assert.ok(desk)
  await newest(desk, '')
  await hosts.stop('desk')
  for (let epoch = 1; epoch <= 12; epoch++) {
    assert.equal((await owner.rotate('p')).epoch, epoch)
    await writeFile(join(folder, 'file'), `epoch ${epoch}`)
    await owner.suspend('p', { message: `epoch ${epoch}` })
  }
  const late = await hosts.create('late')
  await late.join((await owner.invite('p')).invite)
  const back = await hosts.open('desk')
  for (const host of [late, back]) {
    await newest(host, 'epoch 12')
    const all = await eventually(async () => {
      const versions = await host.log('p')
      return versions.length === 13 ? versions : null
    }, 'it reads all of them')
    const old = all.find(({ message }) => message === 'epoch 10')
    const to = join(hosts.dir, `to-${host.name}`)
    await host.resume('p', { to, version: old?.id ?? '' })
    assert.equal(await readFile(join(to, 'file'), 'utf8'), 'epoch 10')
    assert.deepEqual((await host.status('p')).problems, [])
  }
  // And after a restart, from its own disk.
  await hosts.stop('late')
  const again = await hosts.open('late')
  assert.equal((await again.log('p')).length, 13)
  await again.resume('p', { to: join(hosts.dir, 'again') })
  await writeFile(join(hosts.dir, 'again', 'file'), 'by late')
  await again.suspend('p', { message: 'by late' })
  await newest(owner, 'by late')
})

test('two owners who shut out others apart from each other agree on keys that neither of those has', async (t) => {
  const { hosts, others } = await world(t, { second: 'owner', c: 'runner', d: 'runner' })
  const { second, c, d } = others
  assert.ok(second && c && d)
  await newest(second, '')
  await eventually(
    async () => (await second.status('p')).members.length === 4 || null,
    'it knows of all'
  )
  await hosts.stop('owner')
  await hosts.stop('c')
  await hosts.stop('d')
  assert.equal((await second.revoke('p', c.id.slice(0, 16))).epoch, 1)
  await hosts.stop('second')
  const first = await hosts.open('owner')
  assert.equal((await first.revoke('p', d.id.slice(0, 16))).epoch, 1)
  const again = await hosts.open('second')
  await eventually(async () => {
    const [a, b] = [await first.status('p'), await again.status('p')]
    // Each epoch was given to one who is shut out now: neither can be the last.
    return (a.epoch === b.epoch && a.epoch >= 2 && a.revoked.length === 2) || null
  }, 'a new epoch')
  for (const host of [first, again]) {
    const { members, revoked, problems } = await host.status('p')
    assert.deepEqual(members.map(({ name }) => name).toSorted(), ['owner', 'second'])
    assert.deepEqual(revoked.map(({ id }) => id).toSorted(), [c.id, d.id].toSorted())
    assert.deepEqual(problems, [])
  }
  await again.resume('p', { to: join(hosts.dir, 'again') })
  await writeFile(join(hosts.dir, 'again', 'file'), 'after')
  await again.suspend('p', { message: 'after' })
  await newest(first, 'after')
})

test('a host that is let in again, as something less, reads on, and what it made stays', async (t) => {
  const { hosts, owner, others, folder } = await world(t, { laptop: 'runner' })
  const { laptop } = others
  assert.ok(laptop)
  await laptop.resume('p', { to: join(hosts.dir, 'laptop') })
  await writeFile(join(hosts.dir, 'laptop', 'file'), 'two')
  await laptop.suspend('p', { message: 'two' })
  await newest(owner, 'two')
  await owner.revoke('p', 'laptop')
  await owner.resume('p', { to: folder, force: true })
  await writeFile(join(folder, 'file'), 'three')
  await owner.suspend('p', { message: 'three' })
  await laptop.join((await owner.invite('p', { role: 'reader' })).invite)
  await newest(laptop, 'three')
  assert.equal((await laptop.status('p')).role, 'reader')
  await assert.rejects(async () => laptop.suspend('p'), { code: 'FORBIDDEN' })
  for (const host of [owner, laptop]) {
    const messages = (await host.log('p')).map(({ message }) => message)
    assert.deepEqual(messages, ['three', 'two', ''])
  }
})

test('epochs that two owners begin apart lead a newcomer to what was written in either', async (t) => {
  const { hosts, owner, others, folder } = await world(t, { second: 'owner' })
  const { second } = others
  assert.ok(second)
  await second.resume('p', { to: join(hosts.dir, 'second') })
  await hosts.stop('owner')
  await second.rotate('p')
  await writeFile(join(hosts.dir, 'second', 'file'), 'by second')
  await second.suspend('p', { message: 'by second' })
  await hosts.stop('second')
  const first = await hosts.open(owner.name)
  await first.rotate('p')
  await writeFile(join(folder, 'file'), 'by first')
  await first.suspend('p', { message: 'by first' })
  const back = await hosts.open('second')
  await eventually(async () => {
    const [a, b] = [await first.status('p'), await back.status('p')]
    return (a.epoch === b.epoch && a.epoch >= 2 && a.versions === 3 && b.versions === 3) || null
  }, 'one epoch that leads to both')
  const late = await hosts.create('late')
  await late.join((await first.invite('p', { role: 'reader' })).invite)
  const versions = await eventually(async () => {
    const all = await late.log('p')
    return all.length === 3 && all.every(({ isHere }) => isHere) ? all : null
  }, 'the newcomer has both')
  for (const text of ['by first', 'by second']) {
    const version = versions.find(({ message }) => message === text)?.id ?? ''
    const to = join(hosts.dir, `late ${text}`)
    await late.resume('p', { to, version, force: true })
    assert.equal(await readFile(join(to, 'file'), 'utf8'), text)
  }
})

test('an epoch that its author has made so that nobody can open it stops nobody for long', async (t) => {
  const { hosts, owner, others } = await world(t, { liar: 'owner', runner: 'runner' })
  const { liar, runner } = others
  assert.ok(liar && runner)
  await runner.resume('p', { to: join(hosts.dir, 'there') })
  await newest(liar, '')
  await hosts.stop('liar')
  const { identity } = await openHome(hosts.home('liar'))
  await inParcel(hosts.home('liar'), 'p', async (parcel) => {
    const sealed = [...parcel.control.members.roles.keys()].map((host) => ({
      host: Buffer.from(host, 'hex'),
      keys: randomBytes(200)
    }))
    const broken = signControl(identity, {
      parcel: parcel.id,
      sequence: 99,
      epoch: 0,
      parents: parcel.control.parents(64),
      created: 1,
      body: { type: 'epoch', number: 1, sealed }
    })
    const own = parcel.logs().find(({ kind, isOwn }) => kind === 'control' && isOwn)
    await own?.append([[encodeSigned(broken)]])
  })
  await hosts.open('liar')
  await eventually(async () => {
    const [a, b] = [await owner.status('p'), await runner.status('p')]
    return (a.epoch >= 2 && a.epoch === b.epoch) || null
  }, 'another epoch')
  await writeFile(join(hosts.dir, 'there', 'file'), 'goes on')
  await runner.suspend('p', { message: 'goes on' })
  await newest(owner, 'goes on')
})
