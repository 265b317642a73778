import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { mkdir, open, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test, type TestContext } from 'node:test'
import { nullIfAbsent } from '../../lib/errors.js'
import type { Host, RetentionPolicy, VersionInfo } from '../../lib/index.js'
import { eventually, TestHosts } from '../support/hosts.js'

const MB = 1_048_576
const CHUNK = 65_536
const last = (count: number): RetentionPolicy => ({ last: count, daily: 0, weekly: 0, tags: [] })

/** A folder that changes, and what it was in each version. */
class Work {
  readonly dir: string
  readonly kept = new Map<string, Buffer>()
  #size = 0

  constructor(dir: string) {
    this.dir = dir
  }

  async fill(bytes: number): Promise<void> {
    this.#size = bytes
    await mkdir(this.dir, { recursive: true })
    await writeFile(join(this.dir, 'disk'), randomBytes(bytes))
    for (let n = 0; n < 40; n++) await writeFile(join(this.dir, `small-${n}`), randomBytes(2_000))
  }

  /** Writes chunks here and there. */
  async change(chunks: number): Promise<void> {
    const file = await open(join(this.dir, 'disk'), 'r+')
    for (let n = 0; n < chunks; n++) {
      const at = Math.floor(Math.random() * (this.#size / CHUNK)) * CHUNK
      await file.write(randomBytes(CHUNK), 0, CHUNK, at)
    }
    await file.close()
  }

  async suspend(host: Host, message = ''): Promise<VersionInfo> {
    const { version } = await host.suspend('p', { message, scan: 'full' })
    this.kept.set(version.id, await readFile(join(this.dir, 'disk')))
    return version
  }
}

async function one(t: TestContext, bytes: number) {
  const hosts = await TestHosts.start(t)
  const desk = await hosts.create('desk')
  const work = new Work(join(hosts.dir, 'work'))
  await work.fill(bytes)
  await desk.add(work.dir, { name: 'p', vm: 'folder' })
  return { hosts, desk, work }
}

async function two(t: TestContext, bytes: number) {
  const { hosts, desk, work } = await one(t, bytes)
  const laptop = await hosts.create('laptop')
  await laptop.join((await desk.invite('p', { role: 'owner' })).invite)
  return { hosts, desk, laptop, work }
}

async function isHere(host: Host, id: string): Promise<boolean> {
  return (await host.log('p')).find((version) => version.id === id)?.isHere === true
}

async function has(host: Host, id: string): Promise<void> {
  await eventually(async () => ((await isHere(host, id)) ? true : null), `${id} is here`)
}

/** Waits until a host knows that others have signed for a version. */
async function held(host: Host, id: string, by: string): Promise<void> {
  await eventually(async () => {
    const version = (await host.log('p')).find((each) => each.id === id)
    return version?.holders.includes(by) || null
  }, `${by} has signed for ${id}`)
}

async function isRight(hosts: TestHosts, host: Host, work: Work, id: string): Promise<void> {
  const to = join(hosts.dir, `right-${randomBytes(4).toString('hex')}`)
  await host.versions.restore('p', { version: id, to })
  assert.ok((await readFile(join(to, 'disk'))).equals(work.kept.get(id) ?? Buffer.alloc(0)), id)
  await rm(to, { recursive: true })
}

/** Bytes of all files below a folder. */
async function bytesIn(dir: string): Promise<number> {
  let sum = 0
  for (const entry of await readdir(dir, { recursive: true, withFileTypes: true })) {
    // A store that is open takes away files of its own meanwhile.
    const found = await stat(join(entry.parentPath, entry.name)).catch(nullIfAbsent)
    if (entry.isFile()) sum += found?.size ?? 0
  }
  return sum
}

async function wholeIn(host: Host): Promise<void> {
  const result = await host.upkeep.verify('p', { timeout: 0 }, async (loss) => {
    assert.fail(JSON.stringify(loss))
  })
  assert.deepEqual([result.lost, result.repaired, result.unproved], [0, 0, 0])
}

test('the space of forgotten versions comes back, and what is kept stays what it was', async (t) => {
  const { hosts, desk, work } = await one(t, 24 * MB)
  const made: VersionInfo[] = []
  for (let n = 0; n < 40; n++) {
    await work.change(8)
    made.push(await work.suspend(desk, `v${n}`))
  }
  await desk.versions.tag('p', 'keep-me', { version: made[3]?.id ?? '' })
  await desk.versions.setCopies('p', 0)
  const policy = { ...last(5), tags: ['keep-*'] }
  const dry = await desk.retention.forget('p', { policy, isDry: true })
  assert.deepEqual([dry.forgotten.length, dry.kept], [34, 6])
  assert.equal((await desk.log('p')).filter(({ isForgotten }) => isForgotten).length, 0)
  const { forgotten, kept } = await desk.retention.forget('p', { policy })
  assert.deepEqual([forgotten.length, kept], [34, 6])
  const before = await bytesIn(join(hosts.home('desk'), 'store'))
  const { versions } = await desk.retention.prune('p')
  assert.deepEqual(new Set(versions), new Set(forgotten.map(({ id }) => id)))
  await wholeIn(desk)
  const stays = made.filter(({ id }) => !versions.includes(id))
  for (const { id } of stays) await isRight(hosts, desk, work, id)
  // And it goes on as before, also after a restart.
  await work.change(8)
  stays.push(await work.suspend(desk, 'after'))
  assert.ok((stays.at(-1)?.stored ?? 0) < 2 * MB)
  await hosts.stop('desk')
  const after = await bytesIn(join(hosts.home('desk'), 'store'))
  const again = await hosts.open('desk')
  assert.deepEqual(again.problems, [])
  for (const { id } of stays) await isRight(hosts, again, work, id)
  await wholeIn(again)

  const fresh = await hosts.create('fresh')
  const copy = new Work(join(hosts.dir, 'copy'))
  await copy.fill(0)
  await fresh.add(copy.dir, { name: 'p', vm: 'folder' })
  for (const { id } of stays) {
    await writeFile(join(copy.dir, 'disk'), work.kept.get(id) ?? '')
    await copy.suspend(fresh)
  }
  await hosts.stop('fresh')
  const least = await bytesIn(join(hosts.home('fresh'), 'store'))
  t.diagnostic(
    `${(before / MB).toFixed(1)} MiB became ${(after / MB).toFixed(1)}; a fresh store of the same ` +
      `versions has ${(least / MB).toFixed(1)} (${(after / least).toFixed(3)})`
  )
  assert.ok(after <= 1.15 * least, `${after} of ${least}`)
})

test('nothing goes that no other host confirms; what has gone comes again', async (t) => {
  const { hosts, desk, laptop, work } = await two(t, 4 * MB)
  const first = await work.suspend(desk, 'first')
  await work.change(20)
  const second = await work.suspend(desk, 'second')
  // Nobody else has it yet, or nobody says so.
  await has(laptop, second.id)
  await held(desk, first.id, 'laptop')
  await hosts.stop('laptop')
  await desk.retention.forget('p', { versions: [first.id] })
  await assert.rejects(
    async () => desk.retention.prune('p', { timeout: 500 }),
    (error: unknown) => {
      assert.ok(error instanceof Error && 'code' in error)
      assert.equal(error.code, 'TOO_FEW_COPIES')
      assert.match(error.message, /1 version stays.*bring laptop online/)
      return true
    }
  )
  assert.equal(await isHere(desk, first.id), true)
  await isRight(hosts, desk, work, first.id)

  const back = await hosts.open('laptop')
  const { versions } = await desk.retention.prune('p', { timeout: 20_000 })
  assert.deepEqual(versions, [first.id])
  assert.equal(await isHere(desk, first.id), false)
  await isRight(hosts, desk, work, second.id)
  // The other host does not take this one for one that has it.
  await eventually(async () => {
    const version = (await back.log('p')).find(({ id }) => id === first.id)
    return version?.holders.includes('desk') === false || null
  }, 'the desk has said that it is without')
  await back.retention.forget('p', { versions: [first.id] })
  await assert.rejects(async () => back.retention.prune('p', { timeout: 500 }), {
    code: 'TOO_FEW_COPIES'
  })
  await isRight(hosts, back, work, first.id)

  // It comes again when somebody wants it.
  const to = join(hosts.dir, 'first')
  await desk.versions.restore('p', { version: first.id, to })
  assert.ok((await readFile(join(to, 'disk'))).equals(work.kept.get(first.id) ?? Buffer.alloc(0)))
})

test('what a policy does not keep goes by itself', async (t) => {
  const { desk, work } = await one(t, 2 * MB)
  await desk.versions.setCopies('p', 0)
  const first = await work.suspend(desk)
  await work.change(10)
  const second = await work.suspend(desk)
  await desk.retention.go()
  assert.deepEqual([await isHere(desk, first.id), desk.retention.policy('p')], [true, null])
  await desk.retention.setPolicy('p', last(1))
  await desk.retention.go()
  assert.deepEqual([await isHere(desk, first.id), await isHere(desk, second.id)], [false, true])
})

test('of two hosts that prune at the same time one at least keeps what both forgot', async (t) => {
  const { hosts, desk, laptop, work } = await two(t, 2 * MB)
  const first = await work.suspend(desk)
  await work.change(10)
  const second = await work.suspend(desk)
  await has(laptop, second.id)
  await held(desk, first.id, 'laptop')
  for (const host of [desk, laptop]) await host.retention.forget('p', { versions: [first.id] })
  const outcomes = await Promise.allSettled(
    [desk, laptop].map((host) => host.retention.prune('p', { timeout: 1_000 }))
  )
  const gone = outcomes.filter(
    (outcome) => outcome.status === 'fulfilled' && outcome.value.versions.length > 0
  )
  assert.ok(gone.length <= 1)
  const holder = (await isHere(desk, first.id)) ? desk : laptop
  await isRight(hosts, holder, work, first.id)
  for (const host of [desk, laptop]) await isRight(hosts, host, work, second.id)
})

test('what another host makes of what has gone here is fetched, and can go again', async (t) => {
  const { hosts, desk, laptop, work } = await two(t, 4 * MB)
  const first = await work.suspend(desk)
  await work.change(20)
  const second = await work.suspend(desk)
  await has(laptop, second.id)
  await held(desk, first.id, 'laptop')
  const away = new Work(join(hosts.dir, 'away'))
  await laptop.resume('p', { to: away.dir })
  await hosts.stop('laptop')
  await hosts.stop('desk')

  // The laptop goes on from what it has, while the desk moves it elsewhere.
  const lonely = await hosts.open('laptop')
  await writeFile(join(away.dir, 'small-3'), 'written on the laptop')
  const third = await away.suspend(lonely)
  await hosts.stop('laptop')
  const alone = await hosts.open('desk')
  await alone.versions.setCopies('p', 0)
  await alone.retention.forget('p', { versions: [first.id] })
  assert.deepEqual((await alone.retention.prune('p')).versions, [first.id])

  const both = await hosts.open('laptop')
  await has(alone, third.id)
  await isRight(hosts, alone, away, third.id)
  await isRight(hosts, both, work, first.id)
  await work.change(3)
  await alone.resume('p', { force: true })
  const fourth = await work.suspend(alone)
  await has(both, fourth.id)
  await isRight(hosts, both, work, fourth.id)
  await alone.retention.forget('p', { policy: last(1) })
  await alone.retention.prune('p')
  for (const id of [first.id, second.id, third.id]) assert.equal(await isHere(alone, id), false)
  await isRight(hosts, alone, work, fourth.id)
  await wholeIn(alone)
  await wholeIn(both)

  // A newcomer gets what stays from the desk alone.
  const { invite } = await alone.invite('p')
  await hosts.stop('laptop')
  const newcomer = await hosts.create('newcomer')
  await newcomer.join(invite)
  await has(newcomer, fourth.id)
  await isRight(hosts, newcomer, work, fourth.id)
})

test('a prune that is interrupted or dies anywhere loses nothing, and is done again', async (t) => {
  const { hosts, work, ...rest } = await one(t, 8 * MB)
  let { desk } = rest
  await desk.versions.setCopies('p', 0)
  const made: VersionInfo[] = []
  for (let round = 0; round < 8; round++) {
    for (let n = 0; n < 3; n++) {
      await work.change(12)
      made.push(await work.suspend(desk))
    }
    await desk.retention.forget('p', { policy: last(2) })
    const pruning = desk.retention.prune('p')
    const outcome = Promise.resolve(pruning).then(
      () => 'done',
      (error: unknown) => String(error)
    )
    await new Promise((resolve) => setTimeout(resolve, round * 40))
    if (round % 2 === 0) pruning.cancel()
    // Nobody waits for it: a suspend meanwhile is a version like any other.
    else {
      await work.change(2)
      made.push(await work.suspend(desk))
    }
    if (round % 4 >= 2) {
      await hosts.stop('desk')
      desk = await hosts.open('desk')
      assert.deepEqual(desk.problems, [])
    }
    t.diagnostic(`round ${round}: ${await outcome}`)
    for (const { id } of made.slice(-2)) await isRight(hosts, desk, work, id)
    await wholeIn(desk)
  }
  await desk.retention.forget('p', { policy: last(2) })
  await desk.retention.prune('p')
  for (const { id } of made.slice(-2)) await isRight(hosts, desk, work, id)
  await hosts.stop('desk')
  // What was written last stands twice until it is opened again: in the write-ahead log too.
  await hosts.open('desk')
  await hosts.stop('desk')
  const size = await bytesIn(join(hosts.home('desk'), 'store'))
  assert.ok(size < 14 * MB, `${size} bytes`)
})

test('a vault is without what nobody is to have, and keeps what stays', async (t) => {
  const { hosts, desk, work } = await one(t, 8 * MB)
  const first = await work.suspend(desk)
  const vault = await hosts.create('vault')
  const { name } = await vault.join((await desk.invite('p', { role: 'vault' })).invite)
  const label = (await desk.status('p')).members.find(({ role }) => role === 'vault')?.name ?? name
  await work.change(100)
  const second = await work.suspend(desk)
  await held(desk, first.id, label)
  await held(desk, second.id, label)
  // Signed for and confirmed by the vault: this host can be without it.
  await desk.retention.forget('p', { versions: [first.id] })
  assert.deepEqual((await desk.retention.prune('p', { timeout: 20_000 })).versions, [first.id])
  await held(desk, second.id, label)
  await desk.versions.restore('p', { version: first.id, to: join(hosts.dir, 'from-the-vault') })
  assert.ok(
    (await readFile(join(hosts.dir, 'from-the-vault', 'disk'))).equals(
      work.kept.get(first.id) ?? Buffer.alloc(0)
    )
  )

  // Nobody is to have it.
  await desk.versions.setCopies('p', 0)
  const before = await bytesIn(join(hosts.home('vault'), 'store'))
  assert.deepEqual((await desk.retention.prune('p')).versions, [first.id])
  await eventually(
    async () =>
      (await bytesIn(join(hosts.home('vault'), 'store'))) < before - 6 * MB ? true : null,
    'the vault is without it too'
  )
  await hosts.stop('desk')
  const { invite } = await (await hosts.open('desk')).invite('p')
  const newcomer = await hosts.create('newcomer')
  await newcomer.join(invite)
  await eventually(
    async () => (await newcomer.status('p')).members.length === 3 || null,
    'it knows'
  )
  await hosts.stop('desk')
  await has(newcomer, second.id)
  await isRight(hosts, newcomer, work, second.id)
  assert.equal(await isHere(newcomer, first.id), false)
})

test('what is taken back, or made, while a prune copies stays; who has confirmed cannot leave', async (t) => {
  const { hosts, desk, laptop, work } = await two(t, 6 * MB)
  const first = await work.suspend(desk)
  await work.change(30)
  const second = await work.suspend(desk)
  await work.change(30)
  const third = await work.suspend(desk)
  await has(laptop, third.id)
  for (const { id } of [first, second]) await held(desk, id, 'laptop')
  // The base of the folder is of the laptop, with most of it in the log of the desk.
  const away = new Work(join(hosts.dir, 'away'))
  await laptop.resume('p', { to: away.dir })
  await writeFile(join(away.dir, 'small-1'), 'of the laptop')
  const fourth = await away.suspend(laptop)
  await has(desk, fourth.id)
  await desk.resume('p')
  work.kept.set(fourth.id, await readFile(join(work.dir, 'disk')))

  await desk.retention.forget('p', { versions: [first.id, second.id] })
  const pruning = desk.retention.prune('p', { timeout: 20_000 })
  let fifth: VersionInfo | null = null
  for await (const event of pruning) {
    if (event.type !== 'progress' || event.step !== 'copying' || fifth !== null) continue
    await desk.retention.remember('p', [second.id])
    await work.change(2)
    fifth = await work.suspend(desk)
    await assert.rejects(laptop.remove('p'), { code: 'TOO_FEW_COPIES' })
  }
  // What was taken back is in a log with the other, which has to wait for the next one.
  assert.deepEqual((await pruning).versions, [])
  assert.deepEqual((await desk.retention.prune('p', { timeout: 20_000 })).versions, [first.id])
  assert.ok(fifth !== null)
  await hosts.stop('laptop')
  for (const { id } of [second, third, fourth, fifth]) await isRight(hosts, desk, work, id)
  await wholeIn(desk)
})

test('a vault keeps what one host let go of because it is there, though another wants it nowhere', async (t) => {
  const { hosts, desk, laptop, work } = await two(t, 4 * MB)
  const first = await work.suspend(desk)
  const vault = await hosts.create('vault')
  await vault.join((await desk.invite('p', { role: 'vault' })).invite)
  const label = await eventually(async () => {
    const { members } = await laptop.status('p')
    return members.find(({ role }) => role === 'vault')?.name ?? null
  }, 'the laptop knows the vault')
  await work.change(40)
  const second = await work.suspend(desk)
  await has(laptop, second.id)
  for (const host of [desk, laptop]) {
    await held(host, first.id, label)
    await held(host, first.id, 'laptop')
  }
  await desk.versions.setCopies('p', 0)
  for (const host of [desk, laptop]) await host.retention.forget('p', { versions: [first.id] })
  assert.deepEqual((await desk.retention.prune('p')).versions, [first.id])
  await has(laptop, second.id)
  await eventually(
    async () => (await laptop.status('p')).missing.blocks === 0 || null,
    'where the desk has moved it'
  )
  assert.deepEqual((await laptop.retention.prune('p', { timeout: 20_000 })).versions, [first.id])
  // The laptop relies on the vault: it is still there.
  await isRight(hosts, laptop, work, first.id)
  const before = await bytesIn(join(hosts.home('vault'), 'store'))
  await laptop.versions.setCopies('p', 0)
  await laptop.retention.prune('p')
  await eventually(
    async () =>
      (await bytesIn(join(hosts.home('vault'), 'store'))) < before - 3 * MB ? true : null,
    'now nobody wants it'
  )
  await isRight(hosts, desk, work, second.id)
})
