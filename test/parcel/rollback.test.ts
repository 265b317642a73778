import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { existsSync, renameSync } from 'node:fs'
import { cp, mkdir, readdir, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test, type TestContext } from 'node:test'
import type { Answerer } from '../../lib/answerer.js'
import type { Question } from '../../lib/format/recipe.js'
import { Identity } from '../../lib/keys/identity.js'
import type { Log } from '../../lib/log/log.js'
import { Store } from '../../lib/log/store.js'
import type { Known } from '../../lib/parcel/history.js'
import { loadStates } from '../../lib/parcel/local-state.js'
import { signControl } from '../../lib/parcel/members/control.js'
import { Parcel } from '../../lib/parcel/parcel.js'
import { connect, openStore } from '../log/stores.js'
import { eventually } from '../support/hosts.js'
import { onEnd } from '../support/on-end.js'
import { scratch } from '../support/scratch.js'
import { closeContext, openContext, TestParcel, WORK } from './parcels.js'
import { assertSame, snapshot, type Snapshot } from './trees.js'

/**
 * Copies parts of a home and puts them back as a backup tool does that writes into the same file
 * system: all but the store's device file, which names its own inode and never changes.
 */
class Backup {
  readonly #test: TestParcel
  readonly #names: readonly string[]

  private constructor(test: TestParcel, names: readonly string[]) {
    this.#test = test
    this.#names = names
  }

  static async take(test: TestParcel, names: readonly string[]): Promise<Backup> {
    await test.close()
    for (const name of names) {
      await cp(join(test.home, name), join(test.dir, 'backup', name), { recursive: true })
    }
    await test.reopen()
    return new Backup(test, names)
  }

  async putBack(): Promise<void> {
    const { home, dir } = this.#test
    await this.#test.close()
    for (const name of this.#names) {
      for (const file of await readdir(join(home, name))) {
        if (file !== 'CORESTORE') await rm(join(home, name, file), { recursive: true })
      }
      const filter = (path: string): boolean => !path.endsWith('/CORESTORE')
      await cp(join(dir, 'backup', name), join(home, name), { recursive: true, filter })
    }
  }
}

interface Made {
  known: Known
  files: Snapshot
}

async function make(test: TestParcel, name: string, bytes = randomBytes(300_000)): Promise<Made> {
  await writeFile(join(test.folder, name), bytes)
  return { known: await test.commit(), files: await snapshot(test.folder) }
}

async function comesBack(test: TestParcel, { known, files }: Made): Promise<void> {
  const to = join(test.dir, 'to')
  await test.checkOut(known, to)
  assertSame(await snapshot(to), files)
}

async function setting(t: TestContext, names: readonly string[]) {
  const test = await TestParcel.create(t)
  const first = await make(test, 'one')
  const backup = await Backup.take(test, names)
  return { test, first, backup }
}

test('a store put back alone is noticed: the parcel goes on in a new incarnation', async (t) => {
  for (const names of [['store'], ['store', 'index']]) {
    const { test, first, backup } = await setting(t, names)
    await make(test, 'two')
    const oldLogs = test.parcel.logs().map((log) => ({ key: log.key, length: log.length }))
    await backup.putBack()
    const parcel = await test.reopen()
    assert.equal(parcel.problems.length, 1)
    assert.ok(parcel.history.get(first.known.id))
    await comesBack(test, first)

    const third = await make(test, 'three')
    const own = parcel.peers.ownAnnouncement()
    assert.ok(own)
    const lengths = new Map(parcel.logs().map((log) => [log.key.toString('hex'), log.length]))
    assert.equal(lengths.size, 6)
    for (const { key, length } of oldLogs) {
      assert.ok((lengths.get(key.toString('hex')) ?? 0) <= length)
      assert.ok(!third.known.version.cores.at(-1)?.key.equals(key))
    }
    await comesBack(test, first)
    await comesBack(test, third)

    // It is a new incarnation once, and what it had is good for good.
    const again = await test.reopen()
    assert.equal(again.logs().length, 6)
    assert.deepEqual(again.problems, [])
    // Until the user has seen it.
    assert.equal(again.rollbacks.length, 1)
    await again.forgetRollbacks()
    await comesBack(test, first)
    await comesBack(test, third)
    await make(test, 'four')
  }
})

test('the version that the folder came from stays its parent although its record is gone', async (t) => {
  const { test, backup } = await setting(t, ['store', 'index'])
  const lost = await make(test, 'two')
  await backup.putBack()
  await test.reopen()
  const { known } = await make(test, 'three')
  assert.deepEqual(known.version.parents, [lost.known.id])
})

test('a whole home put back goes on where the copy was; old versions stay', async (t) => {
  // Nothing here tells it from a host that was off (design, §4): only peers can, so no new
  // incarnation is asked for.
  const { test, first, backup } = await setting(t, ['store', 'index', 'parcels'])
  await make(test, 'two')
  await backup.putBack()
  const parcel = await test.reopen()
  assert.equal(parcel.history.size, 1)
  await comesBack(test, first)
  await comesBack(test, await make(test, 'three'))
})

test('a home copied to another place is FORKED', async (t) => {
  const { test } = await setting(t, ['parcels'])
  await test.close()
  const copy = join(test.dir, 'copy')
  await cp(test.home, copy, { recursive: true })
  await assert.rejects(Store.open(join(copy, 'store')), { code: 'FORKED' })
  assert.equal((await loadStates(join(copy, 'parcels'), test.identity.atRest)).length, 1)
  await test.reopen()
})

test('after a power cut that lost the tail of the store but not of the index', async (t) => {
  // What an aborted suspend appended is not flushed; the index is another database.
  const { test, first, backup } = await setting(t, ['store'])
  const lost = randomBytes(4 * 1_048_576)
  await writeFile(join(test.folder, 'disk'), lost)
  const abort = new AbortController()
  const report = ({ done }: { done: number }): void => {
    if (done >= lost.byteLength) abort.abort()
  }
  await assert.rejects(test.commit({ report, signal: abort.signal }))
  await backup.putBack()
  await test.reopen()

  // Other content takes the places in the log that the index still has for the lost one.
  await rm(join(test.folder, 'disk'))
  await mkdir(join(test.folder, 'other'))
  const second = await make(test, 'other/disk', randomBytes(8 * 1_048_576))
  const third = await make(test, 'disk', lost)
  await comesBack(test, first)
  await comesBack(test, second)
  await comesBack(test, third)
})

test('killed between saying where a prune has moved everything and noting it', async (t) => {
  const test = await TestParcel.create(t)
  const made: Made[] = []
  for (let n = 0; n < 4; n++) made.push(await make(test, 'file', randomBytes(300_000)))
  const { parcel } = test
  const kept = made.at(-1)
  assert.ok(kept)
  await parcel.settings.setCopies(0)
  await parcel.space.forget(made.slice(0, -1).map(({ known }) => known))
  const [states, then] = [join(test.home, 'parcels'), join(test.dir, 'then')]
  // From the copying on nothing can be noted.
  const report = ({ step }: { step: string }): void => {
    if (step === 'copying' && existsSync(states)) renameSync(states, then)
  }
  await assert.rejects(parcel.space.prune({ timeout: 0 }, { ...WORK, report }))
  await test.close()
  await rename(then, states)
  await test.reopen()
  await comesBack(test, kept)
  await comesBack(test, await make(test, 'other'))
})

test('a host that has lost the record by which it is a member makes versions all the same', async (t) => {
  const owner = await TestParcel.create(t)
  const dir = await scratch(t)
  await mkdir(join(dir, 'home/parcels'), { recursive: true })
  await mkdir(join(dir, 'folder'))
  const identity = Identity.create()
  const context = await openContext(join(dir, 'home'), identity, Date.now)
  onEnd(t, () => closeContext(context))
  await owner.parcel.admission.admit(identity.publicKey, 'runner')
  const parcel = await Parcel.join(context, {
    ...owner.parcel.keyring.current,
    id: owner.parcel.id,
    name: 'p',
    driver: 'folder',
    announcements: owner.parcel.peers.introductions()
  })
  onEnd(t, () => parcel.close())
  // Of the records of the one who let it in only the first has come back.
  const [genesis] = owner.parcel.control.ownRecords(owner.identity.publicKey)
  assert.ok(genesis)
  parcel.control.add(genesis)
  assert.deepEqual([parcel.isLost, parcel.role], [false, null])
  await writeFile(join(dir, 'folder/file'), 'made meanwhile')
  const what = { path: join(dir, 'folder'), exclude: () => false, facts: {}, message: '' }
  const { version } = await parcel.author.commit({ ...what, roles: {}, compress: true }, WORK)
  assert.equal(parcel.history.heads().length, 1)
  for (const record of owner.parcel.control.ownRecords(owner.identity.publicKey)) {
    parcel.control.add(record)
  }
  assert.equal(parcel.role, 'runner')
  parcel.history.judge()
  assert.ok(parcel.history.get(version.id))
})

test('others show in the middle of a suspend that they have more of these logs: it is made in new ones', async (t) => {
  const test = await TestParcel.create(t)
  const first = await make(test, 'one')
  const old = test.parcel.logs()
  for (const kind of ['meta', 'data'] as const) {
    let isShown = false
    const report = (): void => {
      const own = test.parcel.logs().findLast((log) => log.kind === kind)
      if (!isShown) own?.noteContinuedElsewhere()
      isShown = true
    }
    await writeFile(join(test.folder, kind), randomBytes(300_000))
    const known = await test.commit({ report })
    const made = { known, files: await snapshot(test.folder) }
    assert.ok(isShown)
    for (const log of old) assert.ok(!known.version.cores.at(-1)?.key.equals(log.key))
    old.push(...test.parcel.logs())
    await comesBack(test, made)
  }
  assert.equal(test.parcel.rollbacks.length, 2)
  // What only appends records goes on in new ones too.
  for (const log of test.parcel.logs()) if (log.kind === 'meta') log.noteContinuedElsewhere()
  await test.parcel.author.tag('name', first.known.id)
  assert.equal(test.parcel.rollbacks.length, 3)
  await test.reopen()
  assert.ok(test.parcel.history.tags.get('name')?.equals(first.known.id))
  await comesBack(test, first)
})

/** A peer that has so much of a log of the parcel as there is now; and how to connect it with one. */
async function peerWith(t: TestContext, test: TestParcel, log: Log) {
  const store = await openStore(t, join(await scratch(t), 'peer'))
  const mirror = await store.mirror(log.kind, log.key, test.parcel.keyring)
  const wait = new AbortController().signal
  const catchUp = async (): Promise<void> => {
    for (let index = 0; index < log.length; index++) await mirror.read(index, { wait })
  }
  const cut = connect(t, [log], [mirror])
  await catchUp()
  return { mirror, catchUp, cut }
}

function metaOf(test: TestParcel): Log {
  const log = test.parcel.logs().findLast(({ kind }) => kind === 'meta')
  assert.ok(log)
  return log
}

test('others show more of its records while something else is under way, and it ends then: the next start goes on in new logs', async (t) => {
  const { test, first, backup } = await setting(t, ['store', 'index', 'parcels'])
  await make(test, 'two')
  const { mirror, cut } = await peerWith(t, test, metaOf(test))
  cut()
  await backup.putBack()
  await test.reopen()
  const log = metaOf(test)
  const to = join(test.dir, 'to')
  let closing: Promise<void> | null = null
  const beforeSwap = async (): Promise<void> => {
    const cutAgain = connect(t, [log], [mirror])
    await eventually(async () => log.isContinuedElsewhere || null, 'more of its records')
    cutAgain()
    closing = test.close()
  }
  const known = test.parcel.history.get(first.known.id)
  assert.ok(known)
  await test.parcel.files.checkOut(known, to, { served: null, beforeSwap }, WORK)
  await closing
  const parcel = await test.reopen()
  assert.equal(parcel.rollbacks.length, 1)
  await comesBack(test, await make(test, 'three'))
  assert.deepEqual([parcel.history.size, parcel.rollbacks.length], [2, 1])
})

test('what a host appends while it waits for an answer is not taken for somebody else’s', async (t) => {
  const test = await TestParcel.create(t)
  const { known } = await make(test, 'one')
  const { parcel } = test
  const { mirror, catchUp } = await peerWith(t, test, metaOf(test))
  const states = async ({ logs }: Question & { kind: 'states' }) => {
    await parcel.author.tag('meanwhile', known.id)
    await catchUp()
    return Promise.all(
      logs.map(({ core, length }) => (core.equals(mirror.key) ? mirror.signedState(length) : null))
    )
  }
  const silent = async (): Promise<null> => null
  const peer: Answerer = {
    host: 'ab'.repeat(32),
    states,
    recipes: silent,
    records: silent,
    items: silent,
    suspend: silent,
    held: silent,
    lease: async () => 'refused'
  }
  parcel.synthesis.answerers = () => [peer]
  await parcel.forks.ask()
  assert.ok(parcel.forks.isHeard)
  assert.deepEqual([parcel.rollbacks.length, metaOf(test).isContinuedElsewhere], [0, false])
})

test('what a host signed for in a past that it has lost does not count because it is kept', async (t) => {
  const test = await TestParcel.create(t)
  await make(test, 'one')
  const { control, id, says } = test.parcel
  const version = randomBytes(32)
  const receipt = signControl(test.identity, {
    parcel: id,
    sequence: 1_000,
    epoch: 0,
    parents: [id],
    created: 5_000,
    body: { type: 'receipt', version, cores: [] }
  })
  // As a member has it that this host asked for what another record follows.
  assert.equal(control.add(receipt), true)
  await says.keep([receipt])
  assert.deepEqual(control.receipts.of(version), [])
  await make(test, 'two')
  const again = await test.reopen()
  assert.deepEqual(again.control.receipts.of(version), [])
})
