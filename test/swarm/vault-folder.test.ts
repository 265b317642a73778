import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { cp, mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test, type TestContext } from 'node:test'
import type { Host } from '../../lib/index.js'
import { Vaults } from '../../lib/host/vaults.js'
import { eventually, TestHosts } from '../support/hosts.js'
import { onEnd } from '../support/on-end.js'

async function vaultsOf(t: TestContext, hosts: TestHosts, host: Host): Promise<Vaults> {
  const vaults = await Vaults.open(host, hosts.dht.address)
  onEnd(t, () => vaults.close())
  return vaults
}

async function ownerOf(hosts: TestHosts, parcel: string, bytes = 100_000): Promise<Host> {
  const owner = await hosts.create('owner')
  const folder = join(hosts.dir, parcel)
  await mkdir(folder)
  await writeFile(join(folder, 'file'), randomBytes(bytes))
  await owner.add(folder, { name: parcel, vm: 'folder' })
  await owner.suspend(parcel)
  return owner
}

test('a folder is filled, taken elsewhere, and gives all of it to who is a member there', async (t) => {
  const hosts = await TestHosts.start(t)
  const owner = await ownerOf(hosts, 'work')
  const other = await hosts.create('other')
  await other.join((await owner.invite('work')).invite)
  await eventually(async () => (await other.status('work')).heads[0]?.isHere || null, 'a version')
  await hosts.stop('other')

  const vaults = await vaultsOf(t, hosts, owner)
  const stick = join(hosts.dir, 'stick')
  const added = await vaults.add(stick, {})
  assert.deepEqual([added.state, added.parcels, added.done], ['open', ['work'], added.total])
  assert.ok(added.total > 0)
  await eventually(async () => {
    const { members } = await owner.status('work')
    return members.some(({ id, role }) => id === added.id && role === 'vault') || null
  }, 'it is a member')
  const { peers } = await owner.status('work')
  assert.ok(peers.some(({ host, carrier }) => host === added.id && carrier === 'local'))
  // What comes later goes there too.
  await writeFile(join(hosts.dir, 'work', 'late'), randomBytes(50_000))
  const { version } = await owner.suspend('work')
  await eventually(async () => {
    const [vault] = await vaults.list()
    return (vault !== undefined && vault.done === vault.total) || null
  }, 'the new version is there')
  assert.equal((await vaults.release(stick)).state, 'closed')
  await hosts.stop('owner')
  await rename(stick, join(hosts.dir, 'plugged-in'))

  // No network brings it: its only other holder is off.
  const back = await hosts.open('other')
  assert.notEqual((await back.status('work')).heads[0]?.id, version.id)
  const there = await vaultsOf(t, hosts, back)
  await there.add(join(hosts.dir, 'plugged-in'), { wait: false })
  await eventually(async () => {
    const [head] = (await back.status('work')).heads
    return (head?.id === version.id && head.isHere) || null
  }, 'all of it came from the folder')
  const to = join(hosts.dir, 'to')
  await back.resume('work', { to })
  const late = await readFile(join(hosts.dir, 'work', 'late'))
  assert.deepEqual(await readFile(join(to, 'late')), late)
})

test('a disk that is pulled out, plugged in again, and what a vault must not be', async (t) => {
  const hosts = await TestHosts.start(t)
  const owner = await ownerOf(hosts, 'work')
  const vaults = await vaultsOf(t, hosts, owner)
  const stick = join(hosts.dir, 'stick')
  await vaults.add(stick, {})
  // As far as a process can see, a disk that is gone.
  await rename(stick, join(hosts.dir, 'pulled'))
  await eventually(async () => ((await vaults.list())[0]?.state === 'away' ? true : null), 'away')
  await writeFile(join(hosts.dir, 'work', 'more'), 'more')
  await owner.suspend('work')
  await rename(join(hosts.dir, 'pulled'), stick)
  await eventually(async () => {
    const [vault] = await vaults.list()
    return (vault?.state === 'open' && vault.done === vault.total) || null
  }, 'it is opened by itself and catches up')

  await assert.rejects(Promise.resolve(vaults.add(owner.home.dir, {})), { code: 'USAGE' })
  await assert.rejects(Promise.resolve(vaults.add(join(hosts.dir, 'work'), {})), {
    code: 'CONFLICT'
  })
  await mkdir(join(hosts.dir, 'full'))
  await writeFile(join(hosts.dir, 'full', 'file'), '')
  await assert.rejects(Promise.resolve(vaults.add(join(hosts.dir, 'full'), {})), {
    code: 'CONFLICT'
  })
  await assert.rejects(Promise.resolve(vaults.add(join(hosts.dir, 'x'), { names: ['no'] })), {
    code: 'UNKNOWN_PARCEL'
  })
  await assert.rejects(vaults.release(join(hosts.dir, 'nothing')), { code: 'USAGE' })

  await vaults.forget(stick)
  assert.deepEqual((await owner.status('work')).revoked.length, 1)
  assert.deepEqual(await vaults.list().then((all) => all.filter(({ path }) => path === stick)), [])
})

test('a vault whose store was put back to an earlier state goes on, and no member is misled', async (t) => {
  const hosts = await TestHosts.start(t)
  const owner = await ownerOf(hosts, 'work')
  const vaults = await vaultsOf(t, hosts, owner)
  const stick = join(hosts.dir, 'stick')
  await vaults.add(stick, {})
  await vaults.release(stick)
  const earlier = join(hosts.dir, 'earlier')
  await cp(join(stick, 'store'), earlier, { recursive: true, preserveTimestamps: true })
  await vaults.add(stick, {})
  await writeFile(join(hosts.dir, 'work', 'late'), randomBytes(50_000))
  const { version } = await owner.suspend('work')
  await eventually(async () => {
    const [vault] = await vaults.list()
    return (vault !== undefined && vault.done === vault.total) || null
  }, 'all is there')
  await vaults.release(stick)
  // In place, file by file: the folder itself is the one of before.
  await restore(earlier, join(stick, 'store'))
  const again = await vaults.add(stick, {})
  assert.equal(again.done, again.total)
  const { heads, problems } = await owner.status('work')
  assert.deepEqual([heads.map(({ id }) => id), problems], [[version.id], []])
  const reader = await hosts.create('reader')
  await reader.join((await owner.invite('work', { role: 'reader' })).invite)
  await eventually(async () => {
    const [head] = (await reader.status('work')).heads
    return (head?.id === version.id && head.isHere) || null
  }, 'a newcomer has the newest version')
})

/** The file by which a store knows its place stays; all else is as it was. */
async function restore(from: string, to: string): Promise<void> {
  const keep = await readFile(join(to, 'CORESTORE')).catch(() => null)
  await rm(join(to, 'db'), { recursive: true, force: true })
  await cp(join(from, 'db'), join(to, 'db'), { recursive: true, preserveTimestamps: true })
  assert.ok(keep !== null)
}

test('a quota is kept, and more is taken when it grows', async (t) => {
  const hosts = await TestHosts.start(t)
  const size = 48 << 20
  const owner = await ownerOf(hosts, 'work', size)
  const vaults = await vaultsOf(t, hosts, owner)
  const stick = join(hosts.dir, 'stick')
  const quota = 24 << 20
  const full = await vaults.add(stick, { quota })
  assert.ok(full.done < full.total, 'all of it fitted')
  assert.ok(full.used <= quota, `${full.used} of ${quota}`)
  assert.ok(full.used > quota / 4, `only ${full.used}`)
  const whole = await vaults.add(stick, { quota: null })
  assert.equal(whole.done, whole.total)
})

test('another host in the place of a vault is not opened, and forgetting it shuts nobody else out', async (t) => {
  const hosts = await TestHosts.start(t)
  const owner = await ownerOf(hosts, 'work')
  const friend = await hosts.create('friend')
  await friend.join((await owner.invite('work')).invite)
  const vaults = await vaultsOf(t, hosts, owner)
  const stick = join(hosts.dir, 'stick')
  const { id } = await vaults.add(stick, {})
  await vaults.release(stick)
  await hosts.stop('friend')
  await rename(stick, join(hosts.dir, 'kept'))
  await cp(hosts.home('friend'), stick, { recursive: true })
  await assert.rejects(Promise.resolve(vaults.add(stick, {})), { code: 'BAD_KEY' })
  await vaults.forget(stick)
  const { members, revoked } = await owner.status('work')
  assert.ok(members.some((member) => member.id === friend.id))
  assert.deepEqual(
    revoked.map((host) => host.id),
    [id]
  )
  // A member's home, with its keys and folders, is no vault of anybody's.
  const as = await vaults.add(hosts.home('friend'), { wait: false })
  assert.deepEqual(as.parcels, [])
})

test('a vault with nothing to keep is filled at once', async (t) => {
  const hosts = await TestHosts.start(t)
  const host = await hosts.create('host')
  const vaults = await vaultsOf(t, hosts, host)
  const { state, total } = await vaults.add(join(hosts.dir, 'stick'), {})
  assert.deepEqual({ state, total }, { state: 'open', total: 0 })
})
