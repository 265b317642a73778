import assert from 'node:assert/strict'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test, type TestContext } from 'node:test'
import type { Host } from '../../lib/index.js'
import { eventually, TestHosts } from '../support/hosts.js'

async function start(t: TestContext, ...others: string[]) {
  const hosts = await TestHosts.start(t)
  const laptop = await hosts.create('laptop')
  const work = join(hosts.dir, 'work')
  await mkdir(work)
  await writeFile(join(work, 'file'), 'first')
  await laptop.add(work, { name: 'p', vm: 'folder' })
  const { version } = await laptop.suspend('p')
  const joined: Host[] = []
  for (const name of others) {
    const host = await hosts.create(name)
    const role = name === 'vault' ? 'vault' : 'runner'
    await host.join((await laptop.invite('p', { role })).invite)
    joined.push(host)
  }
  for (const [n, host] of joined.entries()) {
    const name = others[n] === 'vault' ? ((await host.list())[0]?.name ?? '') : 'p'
    await eventually(async () => {
      const { members } = await host.status(name)
      return members.length === others.length + 1 || null
    }, 'it knows who is who')
    if (others[n] === 'vault') continue
    await eventually(async () => (await host.log('p'))[0]?.isHere || null, 'it has the version')
  }
  await laptop.leases.setConsistency('p', { consistency: 'lease' })
  for (const [n, host] of joined.entries()) {
    if (others[n] === 'vault') continue
    await eventually(() => (host.leases.get('p') === null ? null : true), 'it knows of the lease')
  }
  return { hosts, laptop, joined, work, first: version }
}

const to = (hosts: TestHosts, name: string): string => join(hosts.dir, `on-${name}`)

async function holder(host: Host, name: string): Promise<void> {
  await eventually(
    () => (host.leases.get('p')?.holderName === name ? true : null),
    `${name} has the lease`
  )
}

test('one host at a time: the lease is asked for, and not given while it is in use', async (t) => {
  const { hosts, laptop, joined, work } = await start(t, 'desk')
  const [desk] = joined
  assert.ok(desk !== undefined)
  assert.deepEqual((await desk.status('p')).consistency, 'lease')
  await writeFile(join(work, 'file'), 'in the middle of it')
  await assert.rejects(async () => desk.resume('p', { to: to(hosts, 'desk'), timeout: 5_000 }), {
    code: 'LEASE_HELD',
    message: /the lease is laptop's: it is in use there/
  })
  const { version } = await laptop.suspend('p', { scan: 'full' })
  const resumed = await desk.resume('p', { to: to(hosts, 'desk'), timeout: 20_000 })
  assert.equal(resumed.version.id, version.id)
  assert.deepEqual(
    [desk.leases.get('p')?.isHere, desk.leases.get('p')?.number, desk.leases.get('p')?.origin],
    [true, 2, 'handed over']
  )
  await holder(laptop, 'desk')
  await writeFile(join(to(hosts, 'desk'), 'file'), 'on the desk')
  await assert.rejects(async () => laptop.leases.take('p', { timeout: 3_000 }), {
    code: 'LEASE_HELD'
  })
  await desk.suspend('p', { scan: 'full' })
  await desk.leases.handOver('p', 'laptop')
  await holder(laptop, 'laptop')
  await laptop.resume('p', { timeout: 20_000 })
  assert.equal(await readFile(join(work, 'file'), 'utf8'), 'on the desk')
  assert.equal((await laptop.status('p')).heads.length, 1)
  // Only who has it ends it.
  await assert.rejects(desk.leases.setConsistency('p', { consistency: 'available' }), {
    code: 'LEASE_HELD'
  })
  await laptop.leases.setConsistency('p', { consistency: 'available' })
  await eventually(() => (desk.leases.get('p') === null ? true : null), 'it is over everywhere')
})

test('what is made under a lease that was taken by force is a second head for everybody', async (t) => {
  const { hosts, joined, work, first } = await start(t, 'desk')
  const [desk] = joined
  assert.ok(desk !== undefined)
  await hosts.stop('laptop')
  // Two hosts, and no third to ask.
  await assert.rejects(async () => desk.resume('p', { to: to(hosts, 'desk'), timeout: 500 }), {
    code: 'LEASE_HELD',
    message: /laptop's, which does not answer.*--force/
  })
  await desk.resume('p', { to: to(hosts, 'desk'), timeout: 500, force: true })
  assert.equal(desk.leases.get('p')?.origin, 'forced')
  await hosts.stop('desk')
  const laptop = await hosts.open('laptop')
  await writeFile(join(work, 'file'), 'on the laptop meanwhile')
  const late = (await laptop.suspend('p', { scan: 'full', offline: true })).version
  assert.equal(late.isLapsed, false, 'it knows of nothing')
  const back = await hosts.open('desk')
  for (const host of [laptop, back]) {
    await eventually(async () => {
      const { heads, isInConflict } = await host.status('p')
      return (heads.length === 2 && isInConflict) || null
    }, 'two heads')
    const heads = (await host.status('p')).heads.map(({ id, isLapsed }) => [id, isLapsed])
    assert.deepEqual(
      new Map(heads.map(([id, isLapsed]) => [id, isLapsed])),
      new Map([
        [first.id, false],
        [late.id, true]
      ])
    )
  }
  await assert.rejects(async () => back.resume('p', { to: to(hosts, 'none'), timeout: 100 }), {
    code: 'CONFLICT',
    message: /made without the lease/
  })
  await assert.rejects(laptop.versions.take('p', late.id), { code: 'LEASE_HELD' })
  // The desk goes on, and settles it.
  await writeFile(join(to(hosts, 'desk'), 'file'), 'on the desk')
  await back.suspend('p', { scan: 'full' })
  await back.versions.take('p', late.id)
  for (const host of [laptop, back]) {
    await eventually(async () => {
      const { heads, isInConflict } = await host.status('p')
      return (heads.length === 1 && !isInConflict && heads[0]?.isLapsed === false) || null
    }, 'settled')
  }
})

test('a majority takes the lease over from a host that is gone', async (t) => {
  const { hosts, joined } = await start(t, 'desk', 'tower')
  const [desk, tower] = joined
  assert.ok(desk !== undefined && tower !== undefined)
  await hosts.stop('laptop')
  await desk.resume('p', { to: to(hosts, 'desk'), timeout: 20_000 })
  assert.equal(desk.leases.get('p')?.origin, 'voted')
  await holder(tower, 'desk')
  const laptop = await hosts.open('laptop')
  await holder(laptop, 'desk')
})

test('of two hosts a vault is the witness', async (t) => {
  const { hosts, joined } = await start(t, 'desk', 'vault')
  const [desk] = joined
  assert.ok(desk !== undefined)
  await hosts.stop('laptop')
  await desk.resume('p', { to: to(hosts, 'desk'), timeout: 20_000 })
  assert.equal(desk.leases.get('p')?.origin, 'voted')
})
