import assert from 'node:assert/strict'
import { createCipheriv, createHash, randomBytes } from 'node:crypto'
import { accessSync, constants } from 'node:fs'
import { access, readdir, readFile, readlink, rm, statfs, writeFile } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { test, type TestContext } from 'node:test'
import { buildGuest, missingForQemu } from '../../examples/demo/linux-guest.js'
import { ItemClient } from '../../lib/export/item-client.js'
import { ITEM_SOCKET } from '../../lib/export/item-protocol.js'
import type { ParcelInfo } from '../../lib/index.js'
import { diskRom } from '../guest/disk-rom.js'
import { gone, Place, processesOf, type User } from '../cli/place.js'
import { finish } from '../support/cli.js'
import { eventually } from '../support/hosts.js'
import { onEnd } from '../support/on-end.js'
import { NO_MOUNT, smallDisk } from '../support/small-disk.js'

const SKIP = missingForQemu() ?? withoutFuse()
const DISK_MIB = 32
/** Blocks that a commit may need for pages of trees. */
const PAGE_BLOCKS = 4
const SUM = /sum ([0-9a-f]{64})\r?\n/
const DATA_SUM = sumOfData()

function withoutFuse(): string | false {
  try {
    accessSync('/dev/fuse', constants.R_OK | constants.W_OK)
    return false
  } catch {
    return '/dev/fuse cannot be opened'
  }
}

/** Two hosts with one Linux guest, and its last suspended version on the first alone. */
class Hosts {
  readonly t: TestContext
  readonly place: Place
  readonly a: User
  readonly b: User

  private constructor(t: TestContext, place: Place, a: User, b: User) {
    this.t = t
    this.place = place
    this.a = a
    this.b = b
  }

  /** `isCached`: the guest has its data file in its memory, so that no disk is needed to read it. */
  static async start(t: TestContext, { isCached = false } = {}): Promise<Hosts> {
    const place = await Place.make(t)
    const [a, b] = [await place.host('a'), await place.host('b')]
    onEnd(t, () => endMonitors(place.dir))
    const folder = place.path('vm')
    await buildGuest(folder, { memory: '96M', diskMiB: DISK_MIB, marker: 'marker' })
    await a.ok('add', folder, '--name', 'vm', '--vm', 'qemu')
    const { invite } = await a.result('invite', 'vm')
    await b.ok('join', String(invite))
    const hosts = new Hosts(t, place, a, b)
    await a.ok('run', 'vm')
    await nextTick(a)
    if (isCached) assert.equal(await ask(a, 'sum', SUM), DATA_SUM)
    await handOver(a, b)
    return hosts
  }

  to(user: User): string {
    return this.place.path(user === this.a ? 'vm' : 'on-b')
  }

  /** Has a host fetch nothing by itself until the returned function is called, or its daemon ends. */
  async hold(user: User): Promise<() => void> {
    const { id: parcel, heads } = await status(user)
    const version = heads[0]?.id ?? ''
    const socket = join(user.home, ITEM_SOCKET)
    const client = await ItemClient.connect({ socket, parcel, version, prefetch: false, start: [] })
    onEnd(this.t, () => client.close())
    return () => client.close()
  }

  async resume(user: User, ...more: string[]): Promise<Record<string, unknown>> {
    return user.result('resume', 'vm', '--no-prefetch', '--to', this.to(user), ...more)
  }
}

/** Of the guest's data file, as `buildGuest` makes it. */
function sumOfData(): string {
  const cipher = createCipheriv('aes-128-ctr', Buffer.alloc(16), Buffer.alloc(16))
  return createHash('sha256')
    .update(cipher.update(Buffer.alloc(DISK_MIB * 2 ** 19)))
    .digest('hex')
}

/** Suspends while the other host is switched off: it has nothing of the version when it comes back. */
async function handOver(from: User, to: User): Promise<void> {
  await to.ok('daemon', 'stop')
  await from.ok('suspend', 'vm')
  const { state, lastWords } = await status(from)
  assert.deepEqual({ state, lastWords }, { state: 'suspended', lastWords: null })
}

async function status(user: User): Promise<ParcelInfo> {
  const info: ParcelInfo = JSON.parse(await user.ok('status', 'vm', '--json'))
  return info
}

/** Types a command on the guest's console; waits for its answer if there is one to wait for. */
async function ask(user: User, command: string, answer: RegExp | null): Promise<string> {
  const console = new Console(user)
  try {
    const from = await console.type(command)
    return answer === null ? '' : await console.find(answer, from, command)
  } finally {
    await console.close()
  }
}

/** The guest's next tick. */
async function nextTick(user: User): Promise<{ tick: number; uptime: number }> {
  const console = new Console(user)
  try {
    const from = await console.tail()
    const text = await console.find(/tick (\d+ uptime [\d.]+)\r?\n/, from, 'a tick')
    const [tick, , uptime] = text.split(' ')
    return { tick: Number(tick), uptime: Number(uptime) }
  } finally {
    await console.close()
  }
}

class Console {
  readonly #user: User
  #text = ''
  readonly #child: ReturnType<User['start']>
  readonly #ended: Promise<unknown>

  constructor(user: User) {
    this.#user = user
    this.#child = user.start('attach', 'vm')
    this.#child.stdout?.setEncoding('latin1').on('data', (part: string) => (this.#text += part))
    this.#ended = finish(this.#child)
  }

  /** Where what is new begins: a terminal is shown what was printed before, in one piece. */
  async tail(): Promise<number> {
    return eventually(() => (this.#text === '' ? null : this.#text.length), 'a console', 60_000)
  }

  async type(line: string): Promise<number> {
    const from = await this.tail()
    this.send(`${line}\n`)
    return from
  }

  send(text: string): void {
    this.#child.stdin?.write(text)
  }

  async find(what: RegExp, from: number, name: string): Promise<string> {
    const search = (): RegExpExecArray | null => what.exec(this.#text.slice(from))
    const found = await eventually(search, name, 60_000).catch(async (error: unknown) => {
      const now = (await this.#user.run('status', 'vm')).stdout
      throw new Error(`${String(error)}\n${this.#text.slice(-500)}\n${now}`, { cause: error })
    })
    return found[1] ?? found[0]
  }

  async close(): Promise<void> {
    this.#child.stdin?.end()
    await this.#ended
  }
}

/** Types a letter on the console of the guest of `diskRom`. */
async function touch(user: User, letter: string, answer: string): Promise<void> {
  const console = new Console(user)
  try {
    console.send(letter)
    await console.find(new RegExp(`${letter}=${answer}\\r\\n`), 0, letter)
  } finally {
    await console.close()
  }
}

/** QEMUs that run in a folder of sockets in `dir`. */
async function monitorsOf(dir: string): Promise<number[]> {
  const found: number[] = []
  for (const name of await readdir('/proc')) {
    if (!/^\d+$/.test(name)) continue
    const [exe, cwd] = [await link(`/proc/${name}/exe`), await link(`/proc/${name}/cwd`)]
    if (exe.includes('qemu-system') && cwd.startsWith(dir)) found.push(Number(name))
  }
  return found
}

async function link(path: string): Promise<string> {
  return readlink(path).catch(() => '')
}

async function endMonitors(dir: string): Promise<void> {
  for (const pid of await monitorsOf(dir)) process.kill(pid, 'SIGKILL')
}

async function monitor(user: User): Promise<number> {
  const [pid, ...others] = await monitorsOf(user.home)
  assert.ok(pid !== undefined && others.length === 0, 'one QEMU')
  return pid
}

/** Waits until the guest cannot go on without a host that is not there, and status says so. */
async function stalled(user: User): Promise<ParcelInfo> {
  return eventually(async () => {
    const info = await status(user)
    return info.images?.stall === null || info.images === null ? null : info
  }, 'a stall in the status')
}

for (const isCached of [false, true]) {
  const what = isCached ? 'memory' : 'disk'
  test(
    `a guest that waits for its ${what}: status says from whom, stop ends it, suspend gives up, it goes on`,
    { skip: SKIP },
    async (t) => {
      const hosts = await Hosts.start(t, { isCached })
      const { a, b } = hosts
      await hosts.resume(b)
      await nextTick(b)
      const first = await monitor(b)
      await a.ok('daemon', 'stop')
      await ask(b, 'sum', null)
      await stalled(b)
      const release = await hosts.hold(b)
      await b.ok('stop', 'vm')
      await gone(first)
      assert.deepEqual(await processesOf(b.home, 'image-server.js'), [])

      await a.ok('status', 'vm')
      await hosts.resume(b, '--force')
      release()
      const before = await nextTick(b)
      const qemu = await monitor(b)
      await a.killDaemon()
      const console = new Console(b)
      const from = await console.type('sum')
      const { images } = await stalled(b)
      assert.match(images?.stall?.why ?? '', /blocks? of its disk or memory/)
      // A host that was killed has not said that it goes.
      await eventually(async () => {
        const [from] = (await status(b)).images?.stall?.from ?? []
        return from === 'a (not connected)' ? true : null
      }, 'a host that is not connected')
      // A second one finds the first still under way.
      for (let round = 0; round < 2; round++) {
        assert.match(await b.fails(6, 'suspend', 'vm'), /cannot be stopped/)
      }
      // One whose caller is gone without a word does not leave the guest standing still.
      const orphan = b.start('suspend', 'vm')
      const ended = finish(orphan)
      await eventually(
        async () => ((await b.client.status())?.active === 1 ? true : null),
        'a suspend under way'
      )
      await b.killDaemon()
      await ended
      await a.ok('status', 'vm')
      assert.equal(await console.find(SUM, from, 'a sum'), DATA_SUM)
      await console.close()
      const after = await nextTick(b)
      assert.ok(after.tick > before.tick && after.uptime > before.uptime)
      assert.equal(await monitor(b), qemu)
      assert.equal((await status(b)).images?.stall, null)
      await b.ok('suspend', 'vm')
    }
  )
}

/** Ctrl-C while a resume waits for the first blocks of a host that does not answer any more. */
async function interruptResume(hosts: Hosts): Promise<void> {
  const { a, b, place } = hosts
  const to = hosts.to(b)
  const pid = await a.daemonPid()
  const before = await readdir(place.dir)
  const resume = b.start('resume', 'vm', '--no-prefetch', '--to', to)
  const ended = finish(resume)
  const partial = place.path(`.${basename(to)}.hyperparcel-partial`)
  const isThere = () =>
    access(partial).then(
      () => true as const,
      () => null
    )
  await eventually(isThere, 'a folder that is being written')
  process.kill(pid, 'SIGSTOP')
  resume.kill('SIGINT')
  assert.equal((await ended).code, 130)
  assert.deepEqual(await readdir(place.dir), before)
  // Before it goes on: nothing is to be fetched behind our back.
  await b.ok('daemon', 'stop')
  process.kill(pid, 'SIGCONT')
}

test(
  'three hand-overs with work in between; what is suspended is not fetched',
  { skip: SKIP },
  async (t) => {
    const hosts = await Hosts.start(t)
    let [here, there] = [hosts.a, hosts.b]
    await interruptResume(hosts)
    let last = { tick: 0, uptime: 0 }
    const notes: string[] = []
    for (let round = 0; round < 3; round++) {
      ;[here, there] = [there, here]
      const resumed = await hosts.resume(here)
      assert.equal(resumed['isRunning'], true)
      const tick = await nextTick(here)
      assert.ok(tick.tick > last.tick && tick.uptime > last.uptime, JSON.stringify([last, tick]))
      notes.push(`round ${round}`, `more ${round}`)
      await ask(here, `write round ${round}`, /wrote round \d/)
      await ask(here, 'fill 4', /filled 4/)
      const before = await status(here)
      await here.ok('checkpoint', 'vm')
      const after = await status(here)
      const [missing = 0, left = 0] = [before, after].map(
        ({ blocks }) => blocks.total - blocks.here
      )
      t.diagnostic(`round ${round}: ${missing} blocks are not here, ${left} after a checkpoint`)
      assert.ok(round === 1 || missing > 0, 'all of it was here')
      assert.ok(missing - left <= PAGE_BLOCKS, 'a checkpoint fetched contents')
      await ask(here, `write more ${round}`, /wrote more \d/)
      assert.match(await ask(here, 'notes', /notes (.*)\r?\n/), new RegExp(notes.join(' ')))
      last = await nextTick(here)
      if (round === 2) assert.equal(await ask(here, 'sum', SUM), DATA_SUM)
      else {
        await handOver(here, there)
        await hosts.hold(here)
      }
    }
    const console = await readFile(join(hosts.to(here), 'console.log'), 'latin1')
    assert.equal((console.match(/guest up/g) ?? []).length, 1, 'it booted once')
    assert.deepEqual((await status(here)).problems, [])
    await here.ok('stop', 'vm')
  }
)

test(
  'an image server that is killed: the guest ends, its unsaved work is said to be lost, its version is not',
  { skip: SKIP },
  async (t) => {
    const hosts = await Hosts.start(t)
    const { a, b } = hosts
    await hosts.resume(b)
    await ask(b, 'write unsaved', /wrote unsaved/)
    // The daemon is killed first, and then ends by itself: the guest does not notice.
    const [server] = await processesOf(b.home, 'image-server.js')
    assert.ok(server !== undefined)
    await b.killDaemon()
    await nextTick(b)
    assert.equal(await ask(b, 'sum', SUM), DATA_SUM)
    await b.ok('daemon', 'stop')
    await nextTick(b)
    assert.deepEqual(await processesOf(b.home, 'image-server.js'), [server])

    await ask(b, 'sum', null)
    process.kill(server, 'SIGKILL')
    const { lastWords } = await eventually(async () => {
      const info = await status(b)
      return info.state === 'running' ? null : info
    }, 'the end of the guest')
    assert.match(lastWords ?? '', /is lost/)
    assert.deepEqual(await monitorsOf(b.home), [])
    assert.match(await b.fails(4, 'resume', 'vm', '--no-prefetch'), /--cold/)
    await b.ok('resume', 'vm', '--no-prefetch', '--force')
    assert.equal(await ask(b, 'sum', SUM), DATA_SUM)
    assert.doesNotMatch(await ask(b, 'notes', /(notes.*)\r?\n/), /unsaved/)
    await ask(b, 'write again', /wrote again/)
    const [other] = await processesOf(b.home, 'image-server.js')
    assert.ok(other !== undefined)
    process.kill(other, 'SIGKILL')
    await eventually(async () => ((await status(b)).state === 'running' ? null : true), 'the end')
    await b.ok('run', 'vm', '--cold')
    assert.match(await ask(b, 'notes', /(notes.*)\r?\n/), /again/)
    assert.equal(await ask(b, 'sum', SUM), DATA_SUM)
    await handOver(b, a)
    await hosts.resume(a)
    assert.equal(await ask(a, 'sum', SUM), DATA_SUM)
    assert.match(await ask(a, 'notes', /(notes.*)\r?\n/), /again/)
  }
)

test(
  'a full disk under what is written: the guest waits, and goes on when there is room',
  { skip: SKIP === false ? NO_MOUNT : SKIP },
  async (t) => {
    const disk = await smallDisk(t, 64)
    const hosts = await Hosts.start(t)
    const { a, b } = hosts
    const to = join(disk, 'vm')
    await b.ok('resume', 'vm', '--no-prefetch', '--to', to)
    await ask(b, 'write before', /wrote before/)
    const { bavail, bsize } = await statfs(disk)
    const ballast = join(disk, 'ballast')
    await writeFile(ballast, Buffer.alloc(bavail * bsize - (6 << 20)))
    const console = new Console(b)
    const from = await console.type('fill 40')
    await console.type('write after')
    const { images } = await stalled(b)
    assert.match(images?.stall?.why ?? '', /full/)
    await monitor(b)
    await rm(ballast)
    await console.find(/wrote after/, from, 'a write')
    await console.close()
    assert.equal(await ask(b, 'sum', SUM), DATA_SUM)
    await eventually(
      async () => ((await status(b)).images?.stall === null ? true : null),
      'no stall'
    )
    await handOver(b, a)
    await hosts.resume(a)
    assert.equal(await ask(a, 'sum', SUM), DATA_SUM)
    assert.match(await ask(a, 'notes', /notes (.*)\r?\n/), /before after/)
  }
)

test('a v86 machine has its disk on demand, and waits for it like QEMU', async (t) => {
  const place = await Place.make(t)
  const [a, b] = [await place.host('a'), await place.host('b')]
  const disk = randomBytes(2 << 20)
  for (let at = 0; at < disk.byteLength; at += 128 << 10) disk.write('A', at)
  await place.write('vm/disk.img', disk)
  await place.write('vm/disk.rom', diskRom())
  const machine = { vmm: 'v86', memory: '1M', bios: 'disk.rom', disks: [{ file: 'disk.img' }] }
  await place.write('vm/machine.json', JSON.stringify(machine))
  await a.ok('add', place.path('vm'), '--name', 'vm', '--vm', 'v86')
  const { invite } = await a.result('invite', 'vm')
  await b.ok('join', String(invite))
  await a.ok('run', 'vm')
  await touch(a, 'b', 'A')
  await handOver(a, b)
  await b.ok('resume', 'vm', '--no-prefetch', '--to', place.path('on-b'))
  assert.deepEqual((await readdir(place.path('on-b'))).includes('disk.img'), false)
  await touch(b, 'b', 'B')

  await a.ok('daemon', 'stop')
  const console = new Console(b)
  console.send('n')
  assert.deepEqual((await stalled(b)).images?.stall?.from, ['a (not connected)'])
  assert.match(await b.fails(6, 'suspend', 'vm'), /cannot be stopped/)
  await a.ok('status', 'vm')
  await console.find(/n=A\r\n/, 0, 'n')
  await console.close()
  await touch(b, 'n', 'B')
  await handOver(b, a)
  await a.ok('resume', 'vm', '--no-prefetch')
  for (const [letter, answer] of [
    ['b', 'C'],
    ['n', 'C'],
    ['c', 'A']
  ] as const)
    await touch(a, letter, answer)

  await a.ok('stop', 'vm')
})
