import assert from 'node:assert/strict'
import { appendFile, mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { randomBytes } from '../../lib/keys/identity.js'
import { eventually, TestHosts } from '../support/hosts.js'

test('a host that was off catches up with three versions, and its own work comes back', async (t) => {
  const hosts = await TestHosts.start(t)
  const folder = join(hosts.dir, 'work')
  await mkdir(folder)
  await writeFile(join(folder, 'log'), '0\n')
  const laptop = await hosts.create('laptop')
  const desk = await hosts.create('desk')
  await laptop.add(folder, { name: 'work', vm: 'folder' })
  await laptop.suspend('work')
  await desk.join((await laptop.invite('work')).invite)
  const there = join(hosts.dir, 'there')
  await desk.resume('work', { to: there })

  await hosts.stop('desk')
  for (const n of [1, 2, 3]) {
    await appendFile(join(folder, 'log'), `${n}\n`)
    await laptop.suspend('work')
  }
  const back = await hosts.open('desk')
  await back.resume('work')
  assert.equal(await readFile(join(there, 'log'), 'utf8'), '0\n1\n2\n3\n')
  assert.equal((await back.log('work')).length, 4)

  await appendFile(join(there, 'log'), '4\n')
  const { version } = await back.suspend('work')
  await laptop.resume('work')
  assert.equal(await readFile(join(folder, 'log'), 'utf8'), '0\n1\n2\n3\n4\n')
  // Each host says, signed, what it holds: the other knows that this version is safe.
  await eventually(async () => {
    const [newest] = await back.log('work')
    return newest?.id === version.id && newest.holders.length === 2 ? true : null
  }, 'the receipt of the laptop')
})

test('two hosts that both went on are a conflict, and either side can be chosen', async (t) => {
  const hosts = await TestHosts.start(t)
  const folder = join(hosts.dir, 'work')
  await mkdir(folder)
  await writeFile(join(folder, 'file'), 'base')
  const laptop = await hosts.create('laptop')
  const desk = await hosts.create('desk')
  await laptop.add(folder, { name: 'work', vm: 'folder' })
  await laptop.suspend('work')
  await desk.join((await laptop.invite('work')).invite)
  const there = join(hosts.dir, 'there')
  await desk.resume('work', { to: there })

  await hosts.stop('desk')
  await writeFile(join(folder, 'file'), 'laptop went on')
  await laptop.suspend('work')
  await hosts.stop('laptop')
  const alone = await hosts.open('desk')
  await writeFile(join(there, 'file'), 'desk went on')
  const mine = await alone.suspend('work')

  const again = await hosts.open('laptop')
  await eventually(
    async () => ((await alone.status('work')).heads.length === 2 ? true : null),
    'both heads'
  )
  await assert.rejects(async () => alone.resume('work'), { code: 'CONFLICT' })
  await eventually(
    async () => ((await again.status('work')).heads.length === 2 ? true : null),
    'both heads'
  )
  await assert.rejects(async () => again.resume('work'), { code: 'CONFLICT' })
  const chosen = mine.version.id.slice(0, 10)
  await again.resume('work', { version: chosen })
  assert.equal(await readFile(join(folder, 'file'), 'utf8'), 'desk went on')
})

test('a transfer that is cut again and again goes on where it stopped', async (t) => {
  const hosts = await TestHosts.start(t)
  const folder = join(hosts.dir, 'film')
  await mkdir(folder)
  const bytes = randomBytes(48 * 1024 * 1024)
  await writeFile(join(folder, 'film'), bytes)
  const laptop = await hosts.create('laptop')
  await laptop.add(folder, { name: 'film', vm: 'folder' })
  const { version } = await laptop.suspend('film')

  let desk = await hosts.create('desk')
  await desk.join((await laptop.invite('film')).invite)
  let cuts = 0
  let last = 0
  for (;;) {
    const { blocks, heads } = await eventually(async () => {
      const status = await desk.status('film')
      return status.blocks.total > 0 && (status.heads[0]?.isHere || status.blocks.here > last)
        ? status
        : null
    }, 'more blocks')
    // What came before a cut is still there after it.
    assert.ok(blocks.here >= last, `${blocks.here} blocks after a cut at ${last}`)
    last = blocks.here
    if (heads[0]?.isHere === true) break
    cuts++
    await hosts.stop('desk')
    desk = await hosts.open('desk')
  }
  assert.ok(cuts >= 2, `cut ${cuts} times`)
  const to = join(hosts.dir, 'to')
  const resumed = await desk.resume('film', { to })
  assert.equal(resumed.version.id, version.id)
  assert.ok(bytes.equals(await readFile(join(to, 'film'))))
})

test('a version whose blocks nobody sends is unreachable, and leaves no folder', async (t) => {
  const hosts = await TestHosts.start(t)
  const folder = join(hosts.dir, 'film')
  await mkdir(folder)
  await writeFile(join(folder, 'film'), randomBytes(64 * 1024 * 1024))
  const laptop = await hosts.create('laptop')
  await laptop.add(folder, { name: 'film', vm: 'folder' })
  await laptop.suspend('film')
  const desk = await hosts.create('desk')
  await desk.join((await laptop.invite('film')).invite)
  await eventually(async () => ((await desk.status('film')).blocks.here > 3 ? true : null), 'some')
  await hosts.stop('laptop')
  const [head] = (await desk.status('film')).heads
  assert.equal(head?.isHere, false, 'the link was too fast for this test')
  const to = join(hosts.dir, 'to')
  await assert.rejects(async () => desk.resume('film', { to, timeout: 1_000 }), {
    code: 'UNREACHABLE',
    message: /laptop/
  })
  await assert.rejects(readFile(to), { code: 'ENOENT' })
})
