import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test, type TestContext } from 'node:test'
import { setTimeout } from 'node:timers/promises'
import type { Host } from '../../lib/index.js'
import { eventually, twoHosts } from '../support/hosts.js'

const MB = 1_000_000
const none = { between: null, up: null, down: null, peerUp: null }

/** Two hosts, of which the laptop is off, and three versions of 5 MB on the desk that have little in common. */
async function setting(t: TestContext, policy?: Parameters<Host['retention']['setHoard']>[1]) {
  const { hosts, one: desk, other, folder } = await twoHosts(t)
  if (policy !== undefined) await other.retention.setHoard('p', policy)
  await hosts.stop('laptop')
  await mkdir(join(folder, 'sub'))
  const ids: string[] = []
  for (let n = 0; n < 3; n++) {
    await writeFile(join(folder, 'big'), randomBytes(4 * MB))
    await writeFile(join(folder, 'sub/small'), randomBytes(MB))
    ids.push((await desk.suspend('p')).version.id)
  }
  const wanted = await readFile(join(folder, 'big'))
  const [first = '', second = '', head = ''] = ids
  return { hosts, desk, folder, wanted, first, second, head }
}

async function isHere(host: Host, id: string): Promise<boolean> {
  return (await host.log('p')).find((each) => each.id === id)?.isHere === true
}

/** Waits until a version is whole on a host. */
function whole(host: Host, id: string, what: string): Promise<true> {
  return eventually(async () => (await isHere(host, id)) || null, what)
}

async function received(host: Host): Promise<number> {
  return (await host.status('p')).peers.reduce((sum, each) => sum + each.received, 0)
}

test('the newest version comes first, then the one before it', async (t) => {
  const { hosts, desk, first, second, head } = await setting(t)
  await desk.limits.set({ ...none, up: 3 * MB })
  const laptop = await hosts.open('laptop')
  await whole(laptop, head, 'the head')
  assert.deepEqual([await isHere(laptop, second), await isHere(laptop, first)], [false, false])
  await whole(laptop, second, 'the one before')
  assert.equal(await isHere(laptop, first), false)
  await desk.limits.clear()
  await whole(laptop, first, 'the first')
})

test('of the head alone: its blocks come, the others on request, and others rely on it', async (t) => {
  const { hosts, desk, wanted, first, head } = await setting(t, { versions: 'head', files: [] })
  let laptop = await hosts.open('laptop')
  await whole(laptop, head, 'the head')
  await setTimeout(1_500)
  assert.equal(await isHere(laptop, first), false, 'nothing else came')
  const came = await received(laptop)
  assert.ok(came < 7 * MB, `${came} bytes came`)
  await eventually(async () => {
    const known = (await desk.log('p')).find(({ id }) => id === head)
    return known?.holders.includes('laptop') || null
  }, 'a receipt')
  // The desk may be without it: the laptop says once more that it has it.
  await hosts.stop('laptop')
  laptop = await hosts.open('laptop')
  await whole(laptop, head, 'the head, after a restart')
  const dir = join(hosts.dir, 'offline')
  await hosts.stop('desk')
  await laptop.resume('p', { to: dir, offline: true })
  assert.ok((await readFile(join(dir, 'big'))).equals(wanted))
  await hosts.open('desk')
  await laptop.resume('p', { to: dir, version: first })
  assert.equal(await isHere(laptop, first), true, 'it was asked for')
})

test('the last two, then all', async (t) => {
  const { hosts, first, second, head } = await setting(t, { versions: 'last:2', files: [] })
  const laptop = await hosts.open('laptop')
  await whole(laptop, head, 'the head')
  await whole(laptop, second, 'the one before')
  await setTimeout(1_500)
  assert.equal(await isHere(laptop, first), false)
  await laptop.retention.setHoard('p', { versions: 'all', files: [] })
  await whole(laptop, first, 'all')
})

test('nothing, or some files: a resume brings the rest', async (t) => {
  const { hosts, wanted, head } = await setting(t, { versions: 'none', files: [] })
  const laptop = await hosts.open('laptop')
  await eventually(async () => (await laptop.status('p')).heads[0]?.id === head || null, 'a record')
  await setTimeout(1_500)
  assert.ok((await received(laptop)) < 50_000, `${await received(laptop)} bytes came`)
  await laptop.retention.setHoard('p', { versions: 'head', files: ['sub'] })
  await eventually(async () => (await received(laptop)) > 0.9 * MB || null, 'the small file')
  await setTimeout(1_000)
  assert.ok((await received(laptop)) < 3.5 * MB, `${await received(laptop)} bytes came`)
  assert.equal(await isHere(laptop, head), false, 'the version is not whole')
  await laptop.resume('p', { to: join(hosts.dir, 'there') })
  assert.ok((await readFile(join(hosts.dir, 'there', 'big'))).equals(wanted))
  assert.equal(await isHere(laptop, head), true)
})

test('what is no policy is refused', async (t) => {
  const { other } = await twoHosts(t)
  for (const versions of ['last:0', 'last:-1', 'last:1.5', 'last:9999999'] as const) {
    const policy = { versions, files: [] }
    await assert.rejects(other.retention.setHoard('p', policy), { code: 'USAGE' })
  }
})
