import assert from 'node:assert/strict'
import { randomBytes, randomInt } from 'node:crypto'
import { join } from 'node:path'
import { test, type TestContext } from 'node:test'
import type { Log } from '../../lib/log/log.js'
import { Mirror } from '../../lib/log/mirror.js'
import { eventually } from '../support/hosts.js'
import { onEnd } from '../support/on-end.js'
import { scratch } from '../support/scratch.js'
import { aKeyring, aLog, connect, openStore } from './stores.js'

const LIMIT = { timeout: 20_000 }

/** Appends `count` blocks that say which they are. */
async function write(log: Log, count: number, bytes = 2_000): Promise<void> {
  const from = log.length
  const bodies = Array.from({ length: count }, (_, n) => {
    return [Buffer.from(`block ${from + n} `), randomBytes(bytes)]
  })
  await log.append(bodies)
}

async function isSame(here: Log, there: Log): Promise<void> {
  assert.equal(here.length, there.length)
  for (let n = 0; n < there.length; n++) {
    assert.ok((await here.read(n)).equals(await there.read(n)), `block ${n}`)
  }
  assert.deepEqual(await here.head(), await there.head())
}

/** A mirror of a log in a store; it counts the blocks that peers sent. */
async function mirrored(
  t: TestContext,
  dir: string,
  key: Buffer,
  shortcut: (log: Log, blocks: number[]) => Promise<number[]> = async (_, blocks) => blocks
) {
  const store = await openStore(t, dir)
  const log = await store.mirror('data', key, aKeyring())
  const downloads: number[] = []
  log.onDownload((index) => downloads.push(index))
  let whole = 0
  const mirror = new Mirror(log, { onWhole: () => whole++, shortcut })
  onEnd(t, () => mirror.close())
  return { store, log, mirror, downloads, whole: () => whole }
}

async function whole(mirror: Log, length: number): Promise<void> {
  const check = (): true | null => (mirror.contiguousLength === length ? true : null)
  await eventually(check, `the mirror has all ${length} blocks`, 15_000)
}

test('a mirror becomes whole, goes on as the log grows, and says so', LIMIT, async (t) => {
  const { log: own } = await aLog(t)
  await write(own, 1_500, 100)
  const { log, downloads, whole: times } = await mirrored(t, join(await scratch(t), 'm'), own.key)
  connect(t, [own], [log])
  await whole(log, own.length)
  for (let n = 0; n < 5; n++) {
    await write(own, 10)
    await whole(log, own.length)
  }
  await eventually(() => (times() > 0 ? true : null), 'onWhole was called')
  await isSame(log, own)
  assert.equal(downloads.length, own.length)
})

test('logs of both sides over one stream', LIMIT, async (t) => {
  const left = await aLog(t)
  const right = await aLog(t)
  await write(left.log, 200)
  await write(right.log, 300)
  const toRight = await right.store.mirror('data', left.log.key, aKeyring())
  const toLeft = await left.store.mirror('data', right.log.key, aKeyring())
  const mirrors = [new Mirror(toRight), new Mirror(toLeft)]
  onEnd(t, () => mirrors.forEach((mirror) => mirror.close()))
  connect(t, [left.log, toLeft], [right.log, toRight])
  await whole(toRight, left.log.length)
  await whole(toLeft, right.log.length)
  await isSame(toRight, left.log)
  await isSame(toLeft, right.log)
})

test('cut again and again and reopened, each block comes once', LIMIT, async (t) => {
  const { log: own } = await aLog(t)
  await write(own, 2_500, 8_000)
  const dir = join(await scratch(t), 'mirror')
  const counts = new Map<number, number>()
  let cuts = 0
  let last = -1
  for (let isWhole = false; !isWhole; cuts++) {
    assert.ok(cuts < 40, 'it comes no further')
    const { store, log, mirror, downloads } = await mirrored(t, dir, own.key)
    // Every second time only the stream is cut, else the store is closed as well.
    for (let n = 0; n < 2 && !isWhole; n++) {
      const cut = connect(t, [own], [log])
      const stopAt = downloads.length + randomInt(50, 500)
      const stop = log.onDownload(() => downloads.length === stopAt && cut())
      const check = (): true | null => {
        isWhole = log.contiguousLength === own.length
        return isWhole || downloads.length >= stopAt ? true : null
      }
      await eventually(check, 'more blocks come', 10_000)
      cut()
      stop()
    }
    assert.ok(log.contiguousLength >= last, 'what was here is gone')
    last = log.contiguousLength
    mirror.close()
    await store.flush()
    await store.close()
    for (const index of downloads) counts.set(index, (counts.get(index) ?? 0) + 1)
  }
  const { log } = await mirrored(t, dir, own.key)
  await whole(log, own.length)
  await isSame(log, own)
  const twice = [...counts].filter(([, count]) => count > 1)
  // A block that is stored while the log closes is told to nobody; `isSame` has seen that it is here.
  assert.ok(counts.size <= own.length && counts.size > own.length / 2)
  t.diagnostic(`${cuts} rounds, ${twice.length} blocks came twice`)
  assert.deepEqual(twice, [])
})

test('onWhole is not said while blocks are missing', LIMIT, async (t) => {
  const { log: own } = await aLog(t)
  await write(own, 3_000, 4_000)
  const { log, store, whole: times } = await mirrored(t, join(await scratch(t), 'm'), own.key)
  const early: number[] = []
  const watching = new Mirror(log, { onWhole: () => early.push(log.contiguousLength) })
  const cut = connect(t, [own], [log])
  await eventually(() => (log.contiguousLength > 100 ? true : null), 'some blocks came')
  cut()
  await new Promise((resolve) => setTimeout(resolve, 200))
  assert.deepEqual([times(), early], [0, []])
  watching.close()
  await store.close()
  assert.deepEqual([times(), early], [0, []])
})

test('a log of another host cannot be written with a forged fork', LIMIT, async (t) => {
  const { log: own } = await aLog(t)
  await write(own, 10)
  const { log } = await mirrored(t, join(await scratch(t), 'm'), own.key)
  connect(t, [own], [log])
  await whole(log, own.length)
  await assert.rejects(log.append([[Buffer.from('x')]]), { code: 'FAILED' })
  assert.equal((await log.head()).fork, 0)
})

test('a mirror does not wait for blocks that their writer has dropped', LIMIT, async (t) => {
  const { log: own } = await aLog(t)
  await write(own, 200, 100)
  await own.drop([
    { start: 100, end: 150 },
    { start: 50, end: 120 }
  ])
  assert.equal(own.contiguousLength, own.length)
  assert.ok(own.has(0, own.length))
  assert.ok(own.isDropped(50) && own.isDropped(149) && !own.isDropped(150))
  await assert.rejects(own.read(60), { code: 'UNREACHABLE' })
  const { log, whole: times } = await mirrored(t, join(await scratch(t), 'm'), own.key)
  connect(t, [own], [log])
  const isStuck = (): true | null => {
    return log.length === own.length && log.contiguousLength === 50 ? true : null
  }
  await eventually(isStuck, 'all before the dropped ones came')
  assert.equal(times(), 0)
  await log.drop([{ start: 50, end: 150 }])
  await eventually(() => (times() > 0 ? true : null), 'it is whole')
  assert.equal(log.contiguousLength, own.length)
  await write(own, 5)
  await whole(log, own.length)
  assert.deepEqual(await log.head(), await own.head())
})

test('what its writer clears while it is on its way does not end the rest', LIMIT, async (t) => {
  const { log: own } = await aLog(t)
  await write(own, 600, 50_000)
  const { log } = await mirrored(t, join(await scratch(t), 'm'), own.key)
  const range = { start: 60, end: 599 }
  const cleared = new Promise<void>((resolve) => {
    const stop = log.onDownload((index) => {
      if (index < 64) return
      stop()
      void own.drop([range]).then(() => resolve())
    })
  })
  connect(t, [own], [log])
  await cleared
  // The word that says so comes later, by another log.
  await new Promise((resolve) => setTimeout(resolve, 1_000))
  await write(own, 20)
  await log.drop([range])
  await whole(log, own.length)
  assert.ok((await log.read(610)).equals(await own.read(610)))
})

test(
  'a log that is taken back while it is fetched ends no loop, and grows again',
  LIMIT,
  async (t) => {
    const { log: own } = await aLog(t)
    await write(own, 300, 100)
    const signature = await own.signatureAt(6)
    assert.ok(signature)
    let isBack = false
    const shortcut = async (copy: Log, blocks: number[]): Promise<number[]> => {
      if (isBack || copy.contiguousLength < 6) return blocks
      await copy.rewind(6, signature)
      isBack = true
      return []
    }
    const dir = join(await scratch(t), 'm')
    const { log } = await mirrored(t, dir, own.key, shortcut)
    connect(t, [own], [log])
    await eventually(() => isBack || null, 'it was taken back')
    connect(t, [own], [log])
    await whole(log, own.length)
    await isSame(log, own)
  }
)
