import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { mkdir, readFile, rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test, type TestContext } from 'node:test'
import type { Host } from '../../lib/index.js'
import { Vaults } from '../../lib/host/vaults.js'
import { eventually, twoHosts } from '../support/hosts.js'
import { onEnd } from '../support/on-end.js'

const MB = 1_000_000

/** A desk with a parcel of 6 MB that a laptop has, and a version of 2 MB more that it does not; the laptop is off. */
async function setting(t: TestContext) {
  const { hosts, one: desk, other, folder } = await twoHosts(t)
  await writeFile(join(folder, 'old'), randomBytes(6 * MB))
  const before = (await desk.suspend('p')).version.id
  await isHere(other, before)
  // The desk knows so from the laptop's own words.
  await eventually(async () => {
    const known = (await desk.log('p')).find(({ id }) => id === before)
    return known?.holders.includes('laptop') || null
  }, 'a receipt')
  await hosts.stop('laptop')
  await writeFile(join(folder, 'new'), randomBytes(2 * MB))
  const { version } = await desk.suspend('p')
  const vaults = await vaultsOf(t, desk, hosts.dht.address)
  return { hosts, desk, folder, id: version.id, vaults, stick: join(hosts.dir, 'stick') }
}

async function vaultsOf(t: TestContext, host: Host, dht: string): Promise<Vaults> {
  const vaults = await Vaults.open(host, dht)
  onEnd(t, () => vaults.close())
  return vaults
}

function isHere(host: Host, id: string): Promise<true> {
  return eventually(async () => {
    const known = (await host.log('p')).find((each) => each.id === id)
    return known?.isHere || null
  }, 'all of a version')
}

test('a disk is filled with what the other site lacks, and hands it over there', async (t) => {
  const { hosts, desk, folder, id, vaults, stick } = await setting(t)
  const filled = await vaults.carry(stick, 'p')
  assert.deepEqual([filled.done, filled.carriesTo], [filled.total, ['laptop']])
  assert.ok(filled.used < 4 * MB, `${filled.used} bytes on the disk`)
  const holders = async (): Promise<readonly string[]> =>
    (await desk.log('p')).find((each) => each.id === id)?.holders ?? []
  assert.deepEqual(await holders(), ['desk'], 'nobody is told that the disk keeps it')
  // What is made meanwhile goes with it.
  await writeFile(join(folder, 'later'), randomBytes(20 * MB))
  const { version } = await desk.suspend('p')
  await eventually(async () => {
    const [vault] = await vaults.list()
    return (vault !== undefined && vault.done === vault.total) || null
  }, 'the later one too')
  await vaults.release(stick)
  await hosts.stop('desk')

  const laptop = await hosts.open('laptop')
  const there = await vaultsOf(t, laptop, hosts.dht.address)
  await there.take(stick)
  await isHere(laptop, version.id)
  const to = join(hosts.dir, 'to')
  await laptop.resume('p', { to, offline: true })
  for (const name of ['old', 'new', 'later']) {
    assert.ok((await readFile(join(to, name))).equals(await readFile(join(folder, name))), name)
  }
  // What it has handed over it has no more.
  await eventually(async () => {
    const [vault] = await there.list()
    return (vault !== undefined && vault.used < 10 * MB) || null
  }, 'its space')
})

test('a disk that is pulled out in the middle goes on when it is there again', async (t) => {
  const { hosts, desk, id, vaults, stick } = await setting(t)
  await vaults.carry(stick, 'p', { wait: false })
  await rename(stick, join(hosts.dir, 'pulled'))
  await eventually(async () => ((await vaults.list())[0]?.state === 'away' ? true : null), 'away')
  await rename(join(hosts.dir, 'pulled'), stick)
  await eventually(async () => {
    const [vault] = await vaults.list()
    return (vault?.state === 'open' && vault.total > 0 && vault.done === vault.total) || null
  }, 'it is filled')
  const [vault] = await vaults.list()
  assert.deepEqual(vault?.carriesTo, ['laptop'], 'it remembers whom it is for')
  assert.ok(vault.used < 4 * MB, `${vault.used} bytes on the disk`)
  await vaults.release(stick)
  await desk.close()
  const laptop = await hosts.open('laptop')
  const there = await vaultsOf(t, laptop, hosts.dht.address)
  // Pulled out while it hands over, and plugged in elsewhere.
  await there.add(stick, { wait: false })
  const elsewhere = join(hosts.dir, 'elsewhere')
  await rename(stick, elsewhere)
  await eventually(async () => ((await there.list())[0]?.state === 'away' ? true : null), 'away')
  await there.take(elsewhere)
  await isHere(laptop, id)
})

test('a disk becomes a vault that keeps all, and the other way round', async (t) => {
  const { desk, id, vaults, stick } = await setting(t)
  const holders = async (): Promise<readonly string[]> =>
    (await desk.log('p')).find((each) => each.id === id)?.holders ?? []
  await vaults.carry(stick, 'p')
  const all = await vaults.add(stick, { names: ['p'] })
  assert.deepEqual([all.carriesTo, all.done], [[], all.total])
  assert.ok(all.used > 8 * MB, `${all.used} bytes on the disk`)
  await eventually(async () => (await holders()).length === 2 || null, 'it says that it keeps it')
  await vaults.carry(stick, 'p', { to: ['laptop'] })
  await eventually(async () => (await holders()).length === 1 || null, 'it takes that back')
})

test('there must be somebody to carry it to, and a vault to take from', async (t) => {
  const { hosts, vaults, stick } = await setting(t)
  await assert.rejects(Promise.resolve(vaults.carry(stick, 'p', { to: ['nobody'] })), {
    code: 'USAGE'
  })
  await mkdir(join(hosts.dir, 'plain'))
  await assert.rejects(Promise.resolve(vaults.take(join(hosts.dir, 'plain'))), { code: 'USAGE' })
})
