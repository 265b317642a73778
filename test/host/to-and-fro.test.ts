import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test, type TestContext } from 'node:test'
import type { Host } from '../../lib/index.js'
import { bytesRead } from '../parcel/bytes-read.js'
import { eventually, TestHosts } from '../support/hosts.js'

const MIB = 1_048_576
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
