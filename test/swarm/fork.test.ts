import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { cp, mkdir, readdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test, type TestContext } from 'node:test'
import { setTimeout } from 'node:timers/promises'
import { ItemClient } from '../../lib/export/item-client.js'
import { openHome, type Host } from '../../lib/index.js'
import { encodeSigned, signControl } from '../../lib/parcel/members/control.js'
import { inParcel } from '../parcel/parcels.js'
import { assertSame, snapshot, type Snapshot } from '../parcel/trees.js'
import { eventually, TestHosts } from '../support/hosts.js'

/** Hosts of one parcel `p`, each with a folder of its own, and all versions with what was in them. */
class Hosts {
  readonly net: TestHosts
  readonly made = new Map<string, Snapshot>()
  #restored = 0

  private constructor(net: TestHosts) {
    this.net = net
  }

  static async start(t: TestContext, others: readonly string[]): Promise<Hosts> {
    const hosts = new Hosts(await TestHosts.start(t))
    const laptop = await hosts.net.create('laptop')
    await mkdir(hosts.folder('laptop'))
    await writeFile(join(hosts.folder('laptop'), 'base'), randomBytes(500_000))
    await laptop.add(hosts.folder('laptop'), { name: 'p', vm: 'folder' })
    await hosts.suspend('laptop', 'first')
    for (const name of others) {
      const host = await hosts.net.create(name)
      await host.join((await laptop.invite('p')).invite)
      await host.resume('p', { to: hosts.folder(name) })
    }
    return hosts
  }

  host(name: string): Host {
    const host = this.net.get(name)
    assert.ok(host)
    return host
  }

  folder(name: string): string {
    return join(this.net.dir, `folder-${name}`)
  }

  async suspend(name: string, file: string, { offline = false } = {}): Promise<void> {
    const folder = this.folder(name)
    await writeFile(join(folder, file), randomBytes(100_000))
    const { version } = await this.host(name).suspend('p', { offline })
    this.made.set(version.id, await snapshot(folder))
  }

  /** Waits until every version is whole on hosts. */
  async areWhole(names: readonly string[]): Promise<void> {
    for (const name of names) {
      await eventually(async () => {
        const here = (await this.host(name).log('p')).filter(({ isHere }) => isHere)
        const ids = new Set(here.map(({ id }) => id))
        return [...this.made.keys()].every((id) => ids.has(id)) || null
      }, `all ${this.made.size} versions on ${name}`)
    }
  }

  /** Reads every version on a host and compares it with what it was made of. */
  async areTrue(name: string): Promise<void> {
    for (const [version, files] of this.made) {
      const to = join(this.net.dir, `restored-${this.#restored++}`)
      await this.host(name).versions.restore('p', { to, version })
      assertSame(await snapshot(to), files)
    }
  }

  /** Copies the home of a host that is off; returns how to put it back, as a backup tool does in the same place. */
  async copy(name: string): Promise<() => Promise<void>> {
    const home = this.net.home(name)
    const copy = join(this.net.dir, `copy-${name}`)
    await cp(home, copy, { recursive: true })
    return async () => {
      for (const entry of await readdir(home)) {
        if (entry !== 'store') await rm(join(home, entry), { recursive: true })
      }
      for (const file of await readdir(join(home, 'store'))) {
        if (file !== 'CORESTORE') await rm(join(home, 'store', file), { recursive: true })
      }
      const filter = (path: string): boolean => !path.endsWith('/CORESTORE')
      await cp(copy, home, { recursive: true, filter })
    }
  }
}

/**
 * A laptop that was put back, of whose first past the desk, which is off, has a version, and of whose second one
 * the office has the last of so many; `other` is that one.
 */
async function wrongPast(t: TestContext, lost: number): Promise<{ hosts: Hosts; other: string }> {
  const hosts = await Hosts.start(t, ['desk', 'office'])
  await hosts.areWhole(['desk', 'office'])
  for (const name of ['office', 'laptop']) await hosts.net.stop(name)
  const putBack = await hosts.copy('laptop')
  await hosts.net.open('laptop')
  await hosts.suspend('laptop', 'kept')
  await hosts.areWhole(['desk'])
  for (const name of ['desk', 'laptop']) await hosts.net.stop(name)
  await putBack()
  await hosts.net.open('laptop')
  for (let n = 0; n < lost; n++) await hosts.suspend('laptop', `lost-${n}`, { offline: true })
  const other = [...hosts.made.keys()].at(-1) ?? ''
  await hosts.net.open('office')
  const isThere = async (): Promise<true | null> =>
    (await hosts.host('office').log('p')).some(({ id, isHere }) => id === other && isHere) || null
  await eventually(isThere, 'the other past in the office')
  return { hosts, other }
}

for (const [kept, lost] of [
  [1, 1],
  [3, 1],
  [1, 3]
] as const) {
  test(`a home put back that goes on alone: others know ${kept} that it lost, it makes ${lost}`, async (t) => {
    const hosts = await Hosts.start(t, ['desk'])
    await hosts.areWhole(['desk'])
    await hosts.net.stop('laptop')
    const putBack = await hosts.copy('laptop')
    await hosts.net.open('laptop')
    for (let n = 0; n < kept; n++) await hosts.suspend('laptop', `kept-${n}`)
    await hosts.areWhole(['desk'])
    await hosts.net.stop('laptop')
    await hosts.net.stop('desk')
    await putBack()
    await hosts.net.open('laptop')
    for (let n = 0; n < lost; n++) await hosts.suspend('laptop', `lost-${n}`, { offline: true })

    await hosts.net.open('desk')
    await hosts.areWhole(['laptop', 'desk'])
    for (const name of ['laptop', 'desk']) {
      await hosts.areTrue(name)
      assert.equal((await hosts.host(name).status('p')).heads.length, 2)
    }
    assert.equal((await hosts.host('laptop').status('p')).rollbacks.length, 1)
    // Both go on, also after a restart.
    for (const name of ['laptop', 'desk']) {
      await hosts.net.stop(name)
      await hosts.net.open(name)
    }
    await hosts.suspend('laptop', 'later')
    await hosts.areWhole(['laptop', 'desk'])
    await hosts.areTrue('desk')
    assert.equal((await hosts.host('laptop').status('p')).rollbacks.length, 1)
  })
}

test('a host that ends once it has said which past counts takes its own logs back at the next start', async (t) => {
  const hosts = await Hosts.start(t, ['desk'])
  await hosts.areWhole(['desk'])
  await hosts.net.stop('laptop')
  const putBack = await hosts.copy('laptop')
  await hosts.net.open('laptop')
  for (let n = 0; n < 3; n++) await hosts.suspend('laptop', `kept-${n}`)
  await hosts.areWhole(['desk'])
  for (const name of ['laptop', 'desk']) await hosts.net.stop(name)
  await putBack()
  await hosts.net.open('laptop')
  await hosts.suspend('laptop', 'lost', { offline: true })
  // As long as somebody reads a version nothing is taken back.
  const { items } = await hosts.host('laptop').open('p')
  const reader = await ItemClient.connect({ ...items, prefetch: false })
  await hosts.net.open('desk')
  await hosts.areWhole(['desk'])
  await setTimeout(1_000)
  assert.equal((await hosts.host('laptop').status('p')).rollbacks.length, 1)
  await hosts.net.stop('laptop')
  reader.close()
  await hosts.net.open('laptop')
  await hosts.areWhole(['laptop', 'desk'])
  await hosts.areTrue('laptop')
})

test('a home put back hears of what it lost before its first version, and goes on from there', async (t) => {
  const hosts = await Hosts.start(t, ['desk'])
  await hosts.net.stop('laptop')
  const putBack = await hosts.copy('laptop')
  await hosts.net.open('laptop')
  await hosts.suspend('laptop', 'kept')
  await hosts.areWhole(['desk'])
  await hosts.net.stop('laptop')
  await putBack()
  await hosts.net.open('laptop')
  await hosts.suspend('laptop', 'next')
  await hosts.areWhole(['laptop', 'desk'])
  const { members, rollbacks } = await hosts.host('laptop').status('p')
  assert.equal(rollbacks.length, 1)
  // New logs once; nothing was written twice that would have to be settled.
  assert.equal(members.find(({ name }) => name === 'laptop')?.incarnations, 2)
  await hosts.areTrue('desk')
})

test('a third host that took the wrong past for the log comes round, with what it made of it', async (t) => {
  const { hosts, other } = await wrongPast(t, 1)
  await rm(hosts.folder('office'), { recursive: true })
  await hosts.host('office').resume('p', { to: hosts.folder('office'), version: other })
  await hosts.suspend('office', 'of-the-office', { offline: true })
  await hosts.net.stop('office')
  await hosts.net.open('desk')
  // The office has a version that nobody else knows.
  const theirs = [...hosts.made].at(-1)
  assert.ok(theirs)
  hosts.made.delete(theirs[0])
  await hosts.areWhole(['laptop', 'desk'])
  hosts.made.set(...theirs)
  await hosts.net.open('office')
  await hosts.areWhole(['laptop', 'desk', 'office'])
  for (const name of ['laptop', 'desk', 'office']) await hosts.areTrue(name)
})

for (const [lost, what] of [
  [1, 'all of its log'],
  [3, 'all of its log'],
  [3, 'nothing older']
] as const) {
  test(`what its own writer has no more of the wrong past, ${lost} long, is saved by who has it and ${what}`, async (t) => {
    const { hosts } = await wrongPast(t, lost)
    const all = (await hosts.host('laptop').log('p')).map(({ id }) => id)
    if (what === 'all of its log') {
      await eventually(async () => {
        const here = (await hosts.host('office').log('p')).filter(({ isHere }) => isHere)
        return all.every((id) => here.some((each) => each.id === id)) || null
      }, 'all of the other past')
    }
    for (const name of ['office', 'laptop']) await hosts.net.stop(name)
    await inParcel(hosts.net.home('laptop'), 'p', async (parcel) => {
      const data = parcel.logs().find((log) => log.isOwn && log.kind === 'data')
      assert.ok(data)
      await data.forget(data.length - 2)
    })
    await hosts.net.open('laptop')
    assert.equal((await hosts.host('laptop').log('p'))[0]?.isHere, false)
    await hosts.net.open('desk')
    await eventually(async () => {
      const all = await hosts.host('laptop').log('p')
      return all.filter(({ isHere }) => isHere).length === lost + 1 || null
    }, 'what the desk has')
    await hosts.net.open('office')
    await hosts.areWhole(['laptop', 'desk', 'office'])
    for (const name of ['laptop', 'desk', 'office']) await hosts.areTrue(name)
  })
}

test('three pasts of one home: what only a third host has stays there, whoever else agrees on what', async (t) => {
  const hosts = await Hosts.start(t, ['desk', 'office'])
  await hosts.areWhole(['desk', 'office'])
  for (const name of ['desk', 'office', 'laptop']) await hosts.net.stop(name)
  const putBack = await hosts.copy('laptop')
  for (const [other, file] of [
    ['desk', 'past-of-the-desk'],
    ['office', 'past-of-the-office']
  ] as const) {
    await hosts.net.open('laptop')
    await hosts.suspend('laptop', file, { offline: true })
    const [id = ''] = [...hosts.made.keys()].slice(-1)
    await hosts.net.open(other)
    await eventually(async () => {
      const all = await hosts.host(other).log('p')
      return all.some((version) => version.id === id && version.isHere) || null
    }, file)
    await hosts.net.stop(other)
    await hosts.net.stop('laptop')
    await putBack()
  }
  await hosts.net.open('laptop')
  await hosts.suspend('laptop', 'past-of-its-own', { offline: true })
  await hosts.net.open('office')
  const all = new Map(hosts.made)
  const [first = '', third = ''] = [...all.keys()]
  hosts.made.delete(third)
  await hosts.areWhole(['laptop', 'office'])
  await hosts.net.open('desk')
  await hosts.suspend('laptop', 'later')
  const later = [...hosts.made.keys()].at(-1) ?? ''
  await eventually(async () => {
    const log = await hosts.host('desk').log('p')
    return log.some(({ id, isHere }) => id === later && isHere) || null
  }, 'what comes later on the desk')
  // Also after a restart.
  for (const name of ['laptop', 'desk', 'office']) {
    await hosts.net.stop(name)
    await hosts.net.open(name)
  }
  await setTimeout(1_000)
  hosts.made.clear()
  for (const id of [first, third]) hosts.made.set(id, all.get(id) ?? assert.fail(id))
  await hosts.areTrue('desk')
})

test('what a member makes up about its own logs is fetched again a few times, and no more', async (t) => {
  const hosts = await Hosts.start(t, ['desk'])
  await hosts.areWhole(['desk'])
  await hosts.net.stop('desk')
  await inParcel(hosts.net.home('desk'), 'p', async (parcel) => {
    const { identity } = await openHome(hosts.net.home('desk'))
    const own = parcel.logs().filter((log) => log.isOwn)
    const [control, meta] = (['control', 'meta'] as const).map((kind) =>
      own.find((log) => log.kind === kind)
    )
    assert.ok(control && meta)
    const truth = await meta.head()
    for (const [n, lie] of [
      { start: 0, signature: Buffer.alloc(0) },
      { start: 1, signature: randomBytes(64) }
    ].entries()) {
      const record = signControl(identity, {
        parcel: parcel.id,
        sequence: parcel.control.count(identity.publicKey) + n,
        epoch: 0,
        parents: parcel.control.parents(64),
        created: Date.now(),
        body: {
          type: 'forked',
          core: meta.key,
          ...lie,
          head: { ...truth, treeHash: randomBytes(32) },
          repeated: truth
        }
      })
      await control.append([[encodeSigned(record)]])
    }
  })
  await hosts.net.open('desk')
  const received = async (): Promise<number> =>
    (await hosts.host('laptop').status('p')).peers[0]?.received ?? 0
  await eventually(async () => ((await received()) > 0 ? true : null), 'the lies')
  await setTimeout(2_000)
  const before = await received()
  assert.ok(before < 200_000, `${before} bytes`)
  await setTimeout(2_000)
  assert.equal(await received(), before)
  // Nobody minds otherwise.
  await hosts.suspend('laptop', 'later')
  await hosts.areWhole(['laptop', 'desk'])
})

test('what a prune had copied is lost before anybody else had it: what it let go comes back', async (t) => {
  const hosts = await Hosts.start(t, ['desk'])
  for (const name of ['second', 'third']) {
    await writeFile(join(hosts.folder('laptop'), 'base'), randomBytes(500_000))
    await hosts.suspend('laptop', name)
  }
  await hosts.areWhole(['desk'])
  await hosts.net.stop('desk')
  const laptop = hosts.host('laptop')
  const old = [...hosts.made.keys()].slice(0, -1)
  await laptop.versions.setCopies('p', 0)
  await laptop.retention.forget('p', { versions: old })
  const { moved } = await laptop.retention.prune('p')
  assert.ok(moved > 0)
  await hosts.net.stop('laptop')
  await inParcel(hosts.net.home('laptop'), 'p', async (parcel) => {
    const copies = parcel.logs().filter((log) => log.kind === 'data' && log.isOwn && log.length > 1)
    assert.equal(copies.length, 1)
    for (const log of copies)
      for (let index = 1; index < log.length; index++) await log.forget(index)
  })
  await hosts.net.open('desk')
  await hosts.net.open('laptop')
  for (const version of old) hosts.made.delete(version)
  await hosts.areWhole(['laptop'])
  await hosts.areTrue('laptop')
})
