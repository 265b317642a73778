import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { eventually, TestHosts } from '../support/hosts.js'
import { flipBits } from './rot.js'

const [ROUNDS, FLIPS, FILES, SIZE] = [50, 20, 60, 500_000]

test(`${ROUNDS * FLIPS} random flips in a store: each is found, and all comes again from one good peer`, async (t) => {
  const hosts = await TestHosts.start(t)
  const desk = await hosts.create('desk')
  const folder = join(hosts.dir, 'folder')
  await mkdir(folder)
  const contents = Array.from({ length: FILES }, () => randomBytes(SIZE))
  for (const [n, bytes] of contents.entries()) await writeFile(join(folder, `file-${n}`), bytes)
  await desk.add(folder, { name: 'p', vm: 'folder' })
  await desk.suspend('p')
  const laptop = await hosts.create('laptop')
  await laptop.join((await desk.invite('p')).invite)
  await eventually(async () => (await laptop.status('p')).heads[0]?.isHere || null, 'all is there')
  let repaired = 0
  for (let round = 0; round < ROUNDS; round++) {
    const who = round % 2 === 0 ? 'laptop' : 'desk'
    await hosts.stop(who)
    await flipBits(join(hosts.home(who), 'store'), FLIPS)
    const host = await hosts.open(who)
    const result = await host.upkeep.verify(null, { timeout: 60_000 }, async () => {})
    assert.equal(result.lost, 0, `round ${round}`)
    repaired += result.repaired
    const to = join(hosts.dir, `to-${round}`)
    const [head] = (await host.status('p')).heads
    await host.versions.restore('p', { version: head?.id ?? '', to })
    for (const [n, bytes] of contents.entries()) {
      assert.deepEqual(await readFile(join(to, `file-${n}`)), bytes, `round ${round}, file ${n}`)
    }
  }
  t.diagnostic(`${repaired} blocks came again`)
})
