import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { lstat, mkdir, open, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test, type TestContext } from 'node:test'
import type { Host } from '../../lib/index.js'
import { bytesRead } from '../parcel/bytes-read.js'
import { assertSame, snapshot } from '../parcel/trees.js'
import { eventually, TestHosts } from '../support/hosts.js'

const MIB = 1_048_576
const NAMES = ['disk', 'large', 'small', 'sub/small']

async function inodes(root: string): Promise<Map<string, bigint>> {
  const looked = NAMES.map(async (name) => {
    const { ino } = await lstat(join(root, name), { bigint: true })
    return [name, ino] as const
  })
  return new Map(await Promise.all(looked))
}

async function pair(t: TestContext) {
  const hosts = await TestHosts.start(t)
  const [one, two] = [await hosts.create('one'), await hosts.create('two')]
  const [a, b] = [join(hosts.dir, 'a'), join(hosts.dir, 'b')]
  await mkdir(join(a, 'sub'), { recursive: true })
  await writeFile(join(a, 'disk'), randomBytes(4 * MIB))
  await writeFile(join(a, 'large'), randomBytes(2 * MIB))
  await writeFile(join(a, 'small'), randomBytes(1_000))
  await writeFile(join(a, 'sub', 'small'), randomBytes(2_000))
  await one.add(a, { name: 'p', vm: 'folder' })
  await two.join((await one.invite('p')).invite, { name: 'p' })
  return { one, two, a, b }
}

/** Waits until the version of one host is all on another. */
async function arrived(id: string, on: Host): Promise<void> {
  await eventually(async () => {
    const [head] = (await on.status('p')).heads
    return head?.id === id && head.isHere ? true : null
  }, 'it is on the other host')
}

test('a folder that goes to and fro is written only where it has changed', async (t) => {
  const { one, two, a, b } = await pair(t)

  /** Suspends it on one host, resumes it on the other, and gives what stayed there. */
  const go = async (from: Host, to: Host, at: string, others: string): Promise<string[]> => {
    const { version } = await from.suspend('p')
    await arrived(version.id, to)
    const before = await inodes(others).catch(() => new Map<string, bigint>())
    await to.resume('p', { to: others })
    assertSame(await snapshot(others), await snapshot(at))
    const after = await inodes(others)
    return NAMES.filter((name) => before.get(name) === after.get(name))
  }
  const change = async (root: string, offset: number): Promise<void> => {
    const file = await open(join(root, 'disk'), 'r+')
    await file.write(randomBytes(10), 0, 10, offset)
    await file.close()
    await writeFile(join(root, 'small'), randomBytes(900))
  }
  assert.deepEqual(await go(one, two, a, b), [])
  await change(b, 1_000_000)
  // Where it was made its files are young still: a program might have them mapped.
  await go(two, one, b, a)
  for (let round = 0; round < 2; round++) {
    await change(a, 2_000_000 + round)
    assert.deepEqual(await go(one, two, a, b), ['large', 'sub/small'])
    await change(b, 3_000_000 + round)
    assert.deepEqual(await go(two, one, b, a), ['large', 'sub/small'])
  }
  for (const host of [one, two]) {
    const { lost, unproved } = await host.upkeep.verify('p', {}, async () => {})
    assert.deepEqual({ lost, unproved }, { lost: 0, unproved: 0 })
  }
  const { version } = await one.suspend('p')
  assert.ok(version.stored < 65_536, `${version.stored} bytes stored of what did not change`)
})

const noProc = process.platform === 'linux' ? false : 'what was read is known on Linux alone'

test(
  'who goes on with a version of another host reads again only what changes',
  { skip: noProc },
  async (t) => {
    const { one, two, b } = await pair(t)
    await arrived((await one.suspend('p')).version.id, two)
    await two.resume('p', { to: b })
    for (let round = 0; round < 3; round++) {
      await writeFile(join(b, 'small'), randomBytes(1_000))
      const read = await bytesRead(async () => two.suspend('p'))
      assert.ok(read < MIB, `${read} bytes read in round ${round}`)
    }
  }
)
