import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import type { Host } from '../../lib/index.js'
import { eventually, TestHosts, twoHosts } from '../support/hosts.js'

/** Heads of every host, once they are the same and so many. */
async function sameHeads(hosts: readonly Host[], count: number): Promise<string[]> {
  return eventually(async () => {
    const all = await Promise.all(
      hosts.map(async (host) => (await host.status('p')).heads.map(({ id }) => id).toSorted())
    )
    const [first = []] = all
    return first.length === count && all.every((ids) => ids.join() === first.join()) ? first : null
  }, `${count} heads on every host`)
}

test('--offline: what is not here is not waited for, whoever is in reach', async (t) => {
  const { hosts, one: desk, other: laptop, folder } = await twoHosts(t)
  const fetchAgain = laptop.hold('p')
  await writeFile(join(folder, 'file'), randomBytes(100_000))
  const { version } = await desk.suspend('p', { offline: true })
  await eventually(async () => {
    const [head] = (await laptop.status('p')).heads
    return head?.id === version.id || null
  }, 'its record')
  const to = join(hosts.dir, 'to')
  await assert.rejects(Promise.resolve(laptop.resume('p', { to, offline: true })), {
    code: 'UNREACHABLE'
  })
  fetchAgain()
  await laptop.resume('p', { to })
  const { silent } = await laptop.resume('p', { to, offline: true })
  assert.deepEqual(silent, ['desk'])
})

test('three hosts that each went on: whoever settles it, all see the same head', async (t) => {
  const hosts = await TestHosts.start(t)
  const names = ['a', 'b', 'c']
  const a = await hosts.create('a')
  const at = (name: string): string => join(hosts.dir, `at-${name}`)
  await mkdir(at('a'))
  await writeFile(join(at('a'), 'file'), 'base')
  await a.add(at('a'), { name: 'p', vm: 'folder' })
  await a.suspend('p')
  for (const name of ['b', 'c']) {
    const host = await hosts.create(name)
    await host.join((await a.invite('p', { role: 'owner' })).invite)
    await host.resume('p', { to: at(name) })
  }
  for (const name of names) await hosts.stop(name)
  for (const name of names) {
    const host = await hosts.open(name)
    await writeFile(join(at(name), 'file'), name)
    await host.suspend('p', { offline: true })
    await hosts.stop(name)
  }
  const all: Host[] = []
  for (const name of names) all.push(await hosts.open(name))
  const [, b, c] = all
  assert.ok(b && c)
  const heads = await sameHeads(all, 3)
  for (const host of all) {
    assert.equal((await host.status('p')).isInConflict, true)
    await assert.rejects(Promise.resolve(host.resume('p')), { code: 'CONFLICT' })
  }
  // Two settle it at the same time, in two ways: that is seen, and settled again.
  const [first = '', second = ''] = heads
  const [one, other] = await Promise.all([
    b.versions.take('p', first),
    c.versions.take('p', second)
  ])
  assert.deepEqual(await sameHeads(all, 2), [one.id, other.id].toSorted())
  const settled = await b.versions.take('p', one.id)
  assert.deepEqual(await sameHeads(all, 1), [settled.id])
  const texts = await Promise.all(
    all.map(async (host, n) => {
      await host.resume('p')
      return readFile(join(at(names[n] ?? ''), 'file'), 'utf8')
    })
  )
  assert.equal(new Set(texts).size, 1)
  const { version } = await c.suspend('p')
  assert.deepEqual(version.parents, [settled.id])
})

test('two hosts that settle it alike at the same time agree; a branch of a host named in hex', async (t) => {
  const hosts = await TestHosts.start(t)
  const beef = await hosts.create('beef')
  const at = (name: string): string => join(hosts.dir, `at-${name}`)
  await mkdir(at('beef'))
  await beef.add(at('beef'), { name: 'p', vm: 'folder' })
  await beef.suspend('p')
  const other = await hosts.create('other')
  await other.join((await beef.invite('p')).invite)
  await other.resume('p', { to: at('other') })
  for (const name of ['beef', 'other']) await hosts.stop(name)
  for (const name of ['beef', 'other']) {
    const host = await hosts.open(name)
    await writeFile(join(at(name), 'file'), name)
    await host.suspend('p', { offline: true })
    await hosts.stop(name)
  }
  const all = [await hosts.open('beef'), await hosts.open('other')] as const
  const [first = ''] = await sameHeads(all, 2)
  await Promise.all(all.map((host) => host.versions.take('p', first)))
  const [head = ''] = await sameHeads(all, 1)
  for (const host of all) assert.equal((await host.status('p')).isInConflict, false)
  // Whoever goes on from either of them goes on from the one that all take.
  const { version } = await all[1].resume('p')
  assert.equal(version.id, head)
  await writeFile(join(at('other'), 'file'), 'later')
  const later = await all[1].suspend('p')
  assert.deepEqual(await sameHeads(all, 1), [later.version.id])
  // And a host named like an id can keep its head.
  await writeFile(join(at('beef'), 'file'), 'at the same time')
  await hosts.stop('other')
  await all[0].resume('p', { version: head, force: true })
  await writeFile(join(at('beef'), 'file'), 'at the same time')
  await all[0].suspend('p')
  const kept = await all[0].versions.keepAll('p')
  assert.deepEqual(kept.map(({ branch }) => branch).toSorted(), ['beef-branch', 'other'])
})

test('a folder that is filled while it is restored to keeps what was put there', async (t) => {
  const hosts = await TestHosts.start(t)
  const host = await hosts.create('one')
  const folder = join(hosts.dir, 'folder')
  await mkdir(folder)
  await writeFile(join(folder, 'file'), randomBytes(1_000_000))
  await host.add(folder, { name: 'p', vm: 'folder' })
  const { version } = await host.suspend('p')
  const to = join(hosts.dir, 'to')
  await mkdir(to)
  const task = host.versions.restore('p', { version: version.id, to })
  let isFilled = false
  for await (const event of task) {
    if (event.type !== 'progress' || event.step !== 'writing' || isFilled) continue
    isFilled = true
    await writeFile(join(to, 'precious'), 'precious')
  }
  assert.equal(isFilled, true)
  await assert.rejects(Promise.resolve(task), { code: 'CONFLICT' })
  assert.equal(await readFile(join(to, 'precious'), 'utf8'), 'precious')
  assert.deepEqual(await readdir(hosts.dir), ['folder', 'homes', 'to'])
})

test('a reader names and settles nothing', async (t) => {
  const hosts = await TestHosts.start(t)
  const owner = await hosts.create('owner')
  const folder = join(hosts.dir, 'folder')
  await mkdir(folder)
  await owner.add(folder, { name: 'p', vm: 'folder' })
  const { version } = await owner.suspend('p')
  const reader = await hosts.create('reader')
  await reader.join((await owner.invite('p', { role: 'reader' })).invite)
  await eventually(async () => (await reader.status('p')).role, 'it knows what it is')
  await owner.versions.tag('p', 'mine')
  await eventually(() => reader.versions.tags('p').length || null, 'the tag')
  await assert.rejects(reader.versions.tag('p', 'other'), { code: 'FORBIDDEN' })
  await assert.rejects(reader.versions.untag('p', 'mine'), { code: 'FORBIDDEN' })
  await assert.rejects(reader.versions.rollback('p', version.id), { code: 'FORBIDDEN' })
})
