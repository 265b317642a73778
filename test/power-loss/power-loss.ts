import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import { fileURLToPath } from 'node:url'
import { WorkerPool } from '../../lib/chunk/worker-pool.js'
import { createHome, openHome } from '../../lib/index.js'
import type { Identity } from '../../lib/keys/identity.js'
import { Store } from '../../lib/log/store.js'
import { loadStates } from '../../lib/parcel/local-state.js'
import { Parcel } from '../../lib/parcel/parcel.js'
import { openContext, WORK } from '../parcel/parcels.js'
import { onEnd } from '../support/on-end.js'
import { randomFrom } from '../support/random.js'
import { scratch } from '../support/scratch.js'
import { Disk } from './disk.js'
import { filesAt } from './steps.js'
import { CALLS, readTrace, type Event } from './trace.js'

const PROGRAM = fileURLToPath(new URL('recorded.js', import.meta.url))

/**
 * Traces a host that makes versions, and looks at what its disk may be like after a loss of power at any
 * moment of that. Whatever it had said that it has must be there, and it must be able to go on.
 */
export async function losePower(
  t: TestContext,
  { images, seed }: { images: number; seed: number }
): Promise<void> {
  const dir = await scratch(t)
  const pool = new WorkerPool()
  onEnd(t, () => pool.close())
  const home = join(dir, 'home')
  const { identity } = await createHome(home, 'one')
  const disk = await Disk.of(home)
  const events = await record(dir, home)
  const started = events.findIndex((event) => event.kind === 'said')
  assert.ok(started > 0, 'nothing was traced')
  const random = randomFrom(seed)
  const moments = Array.from({ length: images }, () => started + random(events.length - started))
  moments.sort((a, b) => a - b)
  let at = 0
  let kept = 0
  const image = await Image.create(dir, identity, pool)
  for (const moment of moments) {
    for (; at < moment; at++) {
      const event = events[at]
      if (event !== undefined) disk.apply(event)
    }
    // It names its own inode, so that it cannot be copied: it must have been durable all the time.
    assert.ok(disk.isSafe(join(home, 'store/CORESTORE')), `the device file, at ${moment}`)
    await image.clear()
    const choice = random(2 ** 30)
    const isDeviceFile = (path: string): boolean => path.endsWith('/CORESTORE')
    await disk.lose(image.home, randomFrom(choice), isDeviceFile)
    const said = saidBefore(events, moment)
    await image.check(said).catch((error: unknown) => {
      throw new Error(`at ${moment} of ${events.length}, by ${choice}`, { cause: error })
    })
    kept += said.versions.size
  }
  t.diagnostic(`${images} images at ${events.length} moments, ${kept} versions in them`)
}

interface SaidSoFar {
  /** Ids in hex, by the step that made them. */
  versions: ReadonlyMap<string, number>
}

/** What a program had said before it got so far: of what it was about to forget nothing. */
function saidBefore(events: readonly Event[], moment: number): SaidSoFar {
  const versions = new Map<string, number>()
  for (const event of events.slice(0, moment)) {
    if (event.kind !== 'said') continue
    const [what, one = '', two = ''] = event.text.trim().split(' ')
    if (what === 'made') versions.set(two, Number(one))
    if (what === 'forgotten') versions.delete(one)
  }
  return { versions }
}

async function record(dir: string, home: string): Promise<Event[]> {
  const traces = join(dir, 'traces')
  const folder = join(dir, 'folder')
  await mkdir(traces)
  await mkdir(folder)
  const args = ['-ff', '-y', '-ttt', '-T', '-xx', '-s', '100000000', '-e', `trace=${CALLS}`]
  const program = [process.execPath, PROGRAM, home, folder]
  const tracer = spawn('strace', [...args, '-o', join(traces, 'of'), ...program], {
    stdio: ['ignore', 'ignore', 'pipe']
  })
  let complaint = ''
  tracer.stderr.setEncoding('utf8').on('data', (text: string) => (complaint += text))
  await once(tracer, 'close')
  assert.equal(tracer.exitCode, 0, complaint)
  return readTrace(traces, home)
}

/** A home as a disk has kept it. */
class Image {
  readonly home: string
  readonly #dir: string
  readonly #identity: Identity
  readonly #pool: WorkerPool

  private constructor(dir: string, identity: Identity, pool: WorkerPool) {
    this.#dir = dir
    this.home = join(dir, 'image')
    this.#identity = identity
    this.#pool = pool
  }

  static async create(dir: string, identity: Identity, pool: WorkerPool): Promise<Image> {
    const image = new Image(dir, identity, pool)
    await (await Store.open(join(image.home, 'store'))).close()
    return image
  }

  /** Of an image before, all but the store's device file goes. */
  async clear(): Promise<void> {
    for (const name of await readdir(this.home)) {
      if (name !== 'store') await rm(join(this.home, name), { recursive: true })
    }
    for (const name of await readdir(join(this.home, 'store'))) {
      if (name !== 'CORESTORE') await rm(join(this.home, 'store', name), { recursive: true })
    }
  }

  async check({ versions }: SaidSoFar): Promise<void> {
    await openHome(this.home)
    const context = await openContext(this.home, this.#identity, Date.now, this.#pool)
    // As the host finds out by the marker of its last run.
    context.isSuspect = true
    try {
      const [state] = await loadStates(context.stateDir, this.#identity.atRest)
      assert.ok(state, 'the parcel is gone')
      const parcel = await Parcel.load(context, state)
      try {
        for (const [id, step] of versions) await this.#restores(parcel, id, filesAt(step))
        const folder = join(this.#dir, 'next')
        await mkdir(folder)
        const files = new Map([['new', Buffer.from('after the loss')]])
        for (const [name, bytes] of files) await writeFile(join(folder, name), bytes)
        const what = { path: folder, exclude: () => false, facts: {}, message: '', compress: true }
        const { version } = await parcel.author.commit({ ...what, roles: {} }, WORK)
        await this.#restores(parcel, version.id.toString('hex'), files)
        await rm(folder, { recursive: true })
      } finally {
        await parcel.close()
      }
    } finally {
      await context.lookaside.close()
      await context.index.close()
      await context.store.close()
    }
  }

  async #restores(parcel: Parcel, id: string, files: ReadonlyMap<string, Buffer>): Promise<void> {
    const known = parcel.history.get(Buffer.from(id, 'hex'))
    assert.ok(known, `the version ${id} is gone`)
    const to = join(this.#dir, 'restored')
    await parcel.files.restore(known, to, { paths: [], beforeSwap: async () => {} }, WORK)
    assert.deepEqual((await readdir(to)).toSorted(), [...files.keys()].toSorted())
    for (const [name, bytes] of files) {
      assert.equal((await stat(join(to, name))).size, bytes.byteLength)
      assert.ok((await readFile(join(to, name))).equals(bytes), `${name} of ${id}`)
    }
    await rm(to, { recursive: true })
  }
}
