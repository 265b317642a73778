import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test, type TestContext } from 'node:test'
import type { Host, LossInfo } from '../../lib/index.js'
import { eventually, TestHosts } from '../support/hosts.js'
import { flipBits, flipMaps } from './rot.js'

const FILES = 24
const SIZE = 300_000

async function verified(host: Host, timeout: number, sample = 1) {
  const losses: LossInfo[] = []
  const result = await host.upkeep.verify(null, { timeout, sample }, async (loss) => {
    losses.push(loss)
  })
  return { ...result, losses }
}

/** A host that made a version of some files, and another that has it. */
async function twoHosts(t: TestContext) {
  const hosts = await TestHosts.start(t)
  const desk = await hosts.create('desk')
  const folder = join(hosts.dir, 'folder')
  await mkdir(folder)
  const files = new Map<string, Buffer>()
  for (let n = 0; n < FILES; n++) {
    files.set(`file-${n}`, randomBytes(SIZE))
    await writeFile(join(folder, `file-${n}`), files.get(`file-${n}`) ?? '')
  }
  await desk.add(folder, { name: 'p', vm: 'folder' })
  await desk.suspend('p')
  const laptop = await hosts.create('laptop')
  await laptop.join((await desk.invite('p')).invite)
  await eventually(
    async () => (await laptop.status('p')).heads[0]?.holders.includes('laptop') || null,
    'all is there, and on its disk'
  )
  const isRight = async (dir: string): Promise<void> => {
    for (const [name, contents] of files) {
      assert.deepEqual(await readFile(join(dir, name)), contents, name)
    }
  }
  return { hosts, files, isRight }
}

for (const who of ['desk', 'laptop'] as const) {
  test(`what rots on the disk of the ${who} is found, and comes again from the other`, async (t) => {
    const { hosts, isRight } = await twoHosts(t)
    await hosts.stop(who)
    await flipBits(join(hosts.home(who), 'store'), 12)
    const host = await hosts.open(who)
    const first = await verified(host, 30_000)
    assert.ok(first.repaired > 0, JSON.stringify(first))
    assert.deepEqual([first.lost, first.losses], [0, []])
    const second = await verified(host, 0)
    assert.deepEqual([second.repaired, second.lost], [0, 0])
    assert.ok(second.blocks >= first.blocks)
    assert.equal((await host.status('p')).heads[0]?.isHere, true)
    assert.match((await host.status('p')).problems.join(), /damaged on this disk/)
    await host.resume('p', {
      to: join(hosts.dir, 'to'),
      offline: true,
      cwd: hosts.dir,
      force: true
    })
    await isRight(join(hosts.dir, 'to'))
  })
}

test('a prune goes on beside what has rotted, which can still be mended', async (t) => {
  const { hosts, files, isRight } = await twoHosts(t)
  const desk = hosts.get('desk')
  const laptop = hosts.get('laptop')
  assert.ok(desk && laptop)
  const folder = join(hosts.dir, 'folder')
  for (let round = 0; round < 3; round++) {
    for (const name of ['file-1', 'file-2', 'file-3']) {
      files.set(name, randomBytes(SIZE))
      await writeFile(join(folder, name), files.get(name) ?? '')
    }
    await desk.suspend('p')
  }
  await eventually(
    async () => (await laptop.status('p')).heads[0]?.holders.includes('laptop') || null,
    'all is there, and on its disk'
  )
  await hosts.stop('desk')
  await flipBits(join(hosts.home('desk'), 'store'), 12)
  const again = await hosts.open('desk')
  const last = { last: 1, daily: 0, weekly: 0, tags: [] }
  const { forgotten } = await again.retention.forget('p', { policy: last })
  assert.equal(forgotten.length, 3)
  await again.retention.prune('p')
  const first = await verified(again, 30_000)
  assert.deepEqual([first.lost, first.losses], [0, []])
  const to = join(hosts.dir, 'to')
  await again.resume('p', { to, offline: true, cwd: hosts.dir, force: true })
  await isRight(to)
})

test('maps of which blocks are here that rot are made anew, and nothing is lost', async (t) => {
  const { hosts, isRight } = await twoHosts(t)
  await hosts.stop('laptop')
  await hosts.stop('desk')
  assert.ok((await flipMaps(join(hosts.home('desk'), 'store'))) > 0)
  const desk = await hosts.open('desk')
  assert.deepEqual(desk.problems, [])
  const { repaired, lost } = await verified(desk, 0)
  assert.deepEqual([repaired, lost], [0, 0])
  const [head] = (await desk.status('p')).heads
  assert.equal(head?.isHere, true)
  await desk.versions.restore('p', { version: head.id, to: join(hosts.dir, 'to') })
  await isRight(join(hosts.dir, 'to'))
})

test('the scrub finds it by itself, within its share, and begins again', async (t) => {
  const { hosts } = await twoHosts(t)
  await hosts.stop('laptop')
  await flipBits(join(hosts.home('laptop'), 'store'), 6)
  const laptop = await hosts.open('laptop')
  await laptop.scrub.setQuota(0)
  await laptop.scrub.go()
  assert.deepEqual(laptop.scrub.info, { quota: 0, done: null, damaged: 0 })
  await hosts.stop('laptop')
  const again = await hosts.open('laptop', () => Date.now() + 86_400_000)
  // A share of a tenth of what there is, sixty of which make a day.
  await again.scrub.setQuota((60 * FILES * SIZE) / 10)
  await hosts.stop('laptop')
  let goes = 0
  for (let day = 2; goes < 100; day++, goes++) {
    const host = await hosts.open('laptop', () => Date.now() + day * 86_400_000)
    await host.scrub.go()
    if (host.scrub.info.done !== null) break
    await hosts.stop('laptop')
  }
  assert.ok(goes >= 2 && goes < 100, `${goes} shares`)
  const last = await eventually(() => hosts.get('laptop') ?? null, 'the host')
  assert.ok(last.scrub.info.damaged > 0)
  const { repaired, lost } = await verified(last, 0)
  assert.deepEqual([repaired, lost], [0, 0])
})

test('what nobody has is named; the rest is brought out, and the next suspend stores it anew', async (t) => {
  const { hosts, files } = await twoHosts(t)
  await hosts.stop('laptop')
  await hosts.stop('desk')
  await flipBits(join(hosts.home('desk'), 'store'), 2)
  const desk = await hosts.open('desk')
  const { lost, losses, repaired } = await verified(desk, 0)
  assert.ok(lost > 0)
  assert.equal(repaired, 0)
  assert.ok(losses.length > 0)
  const to = join(hosts.dir, 'rescued')
  const told: LossInfo[] = []
  const { lost: lacking } = await desk.upkeep.salvage('p', { to }, async (loss) => {
    told.push(loss)
  })
  assert.deepEqual(told, losses)
  assert.equal(lacking, losses.length)
  for (const [name, contents] of files) {
    const rescued = await readFile(join(to, name)).catch(() => null)
    const loss = losses.find(({ path }) => path === name)
    // A list of files that ends early names none of those behind.
    if (rescued === null)
      assert.ok(
        losses.some(({ path }) => path === null),
        name
      )
    else if (loss === undefined) assert.deepEqual(rescued, contents, name)
    else {
      for (const [offset, length] of loss.ranges) {
        assert.deepEqual(rescued.subarray(offset, offset + length), Buffer.alloc(length), name)
        contents.copy(rescued, offset, offset, offset + length)
      }
      assert.deepEqual(rescued, contents, name)
    }
  }
  // The folder still has everything: a new version needs nothing of what is lost.
  const { version } = await desk.suspend('p', { scan: 'full' })
  assert.equal(version.isHere, true)
  const again = join(hosts.dir, 'again')
  await desk.versions.restore('p', { version: version.id, to: again })
  assert.deepEqual(await readFile(join(again, 'file-0')), files.get('file-0'))
  // And the other host, when it is back, has what was lost.
  await hosts.open('laptop')
  await eventually(async () => {
    const { lost: still } = await verified(desk, 5_000)
    return still === 0 || null
  }, 'it came again')
})
