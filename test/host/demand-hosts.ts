import assert from 'node:assert/strict'
import { createCipheriv, createHash } from 'node:crypto'
import { accessSync, constants } from 'node:fs'
import { readdir, readlink } from 'node:fs/promises'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import { buildGuest, missingForQemu } from '../../examples/demo/linux-guest.js'
import { ItemClient } from '../../lib/export/item-client.js'
import { ITEM_SOCKET } from '../../lib/export/item-protocol.js'
import type { ParcelInfo } from '../../lib/index.js'
import { Place, objects, type User } from '../cli/place.js'
import { finish, type Ran } from '../support/cli.js'
import { eventually } from '../support/hosts.js'
import { onEnd } from '../support/on-end.js'

export const SKIP = missingForQemu() ?? withoutFuse()
export const DISK_MIB = 32
/** Blocks that a commit may need for pages of trees. */
export const PAGE_BLOCKS = 4
export const SUM = /sum ([0-9a-f]{64})\r?\n/
export const DATA_SUM = sumOfData()

function withoutFuse(): string | false {
  try {
    accessSync('/dev/fuse', constants.R_OK | constants.W_OK)
    return false
  } catch {
    return '/dev/fuse cannot be opened'
  }
}

/** Two hosts with one Linux guest, and its last suspended version on the first alone. */
export class Hosts {
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

  /**
   * `isCached`: the guest has its data file in its memory, so that no disk is needed to read it; `by`: what
   * the second host's programs are run by.
   */
  static async start(
    t: TestContext,
    {
      isCached = false,
      by = () => [],
      prepare = async () => {}
    }: {
      isCached?: boolean
      by?: (place: Place) => string[]
      prepare?: (place: Place) => Promise<void>
    } = {}
  ): Promise<Hosts> {
    const place = await Place.make(t)
    await prepare(place)
    const [a, b] = [await place.host('a'), await place.host('b', { by: by(place) })]
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
    await handOver(t, a, b)
    return hosts
  }

  to(user: User): string {
    return this.place.path(user === this.a ? 'vm' : 'on-b')
  }

  hold(user: User): Promise<() => void> {
    return hold(this.t, user)
  }

  async resume(user: User, ...more: string[]): Promise<Record<string, unknown>> {
    const { code, stdout } = await resumeUnfetched(
      this.other(user),
      user,
      '--to',
      this.to(user),
      ...more
    )
    assert.equal(code, 0, stdout)
    return objects(stdout).at(-1) ?? {}
  }

  other(user: User): User {
    return user === this.a ? this.b : this.a
  }
}

/**
 * Resumes on a host that fetches nothing which is not read, from its first moment on: the other
 * host answers when this one has been told so.
 */
export async function resumeUnfetched(other: User, user: User, ...more: string[]): Promise<Ran> {
  // By the command line: the other user's home can be another user's.
  const { isRunning } = await user.result('daemon', 'status')
  const peer = isRunning === true ? null : await other.client.status()
  if (peer !== null) process.kill(peer.pid, 'SIGSTOP')
  try {
    const child = user.start('resume', 'vm', '--no-prefetch', '--json', ...more)
    child.stdin?.end()
    const isTold = new Promise<void>((resolve) => {
      let text = ''
      child.stdout?.on('data', (part: Buffer) => {
        text += part.toString()
        if (text.includes('"step":"asking"')) resolve()
      })
    })
    const ended = finish(child)
    await Promise.race([isTold, ended])
    if (peer !== null) process.kill(peer.pid, 'SIGCONT')
    return await ended
  } finally {
    if (peer !== null) process.kill(peer.pid, 'SIGCONT')
  }
}

/** Of the guest's data file, as `buildGuest` makes it. */
function sumOfData(): string {
  const cipher = createCipheriv('aes-128-ctr', Buffer.alloc(16), Buffer.alloc(16))
  return createHash('sha256')
    .update(cipher.update(Buffer.alloc(DISK_MIB * 2 ** 19)))
    .digest('hex')
}

/** Has a host fetch nothing by itself until the returned function is called, or its daemon ends. */
async function hold(t: TestContext, user: User): Promise<() => void> {
  const { id: parcel, heads } = await status(user)
  const version = heads[0]?.id ?? ''
  const socket = join(user.home, ITEM_SOCKET)
  const client = await ItemClient.connect({ socket, parcel, version, prefetch: false, start: [] })
  onEnd(t, () => client.close())
  return () => client.close()
}

/**
 * Suspends so that the other host has nothing of the version: it is switched off, or, when the guest
 * may need something of it still, fetches nothing.
 */
export async function handOver(t: TestContext, from: User, to: User): Promise<void> {
  if ((await status(to)).heads.length === 0) await to.ok('daemon', 'stop')
  else await hold(t, to)
  await from.ok('suspend', 'vm')
  const { state, lastWords } = await status(from)
  assert.deepEqual({ state, lastWords }, { state: 'suspended', lastWords: null })
}

export async function status(user: User): Promise<ParcelInfo> {
  const info: ParcelInfo = JSON.parse(await user.ok('status', 'vm', '--json'))
  return info
}

/** Types a command on the guest's console; waits for its answer if there is one to wait for. */
export async function ask(user: User, command: string, answer: RegExp | null): Promise<string> {
  const console = new Console(user)
  try {
    const from = await console.type(command)
    return answer === null ? '' : await console.find(answer, from, command)
  } finally {
    await console.close()
  }
}

/** The guest's next tick. */
export async function nextTick(user: User): Promise<{ tick: number; uptime: number }> {
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

export class Console {
  readonly #user: User
  #text = ''
  /** What became of it, when it has ended. */
  #ran: Ran | null = null
  readonly #child: ReturnType<User['start']>
  readonly #ended: Promise<void>

  constructor(user: User) {
    this.#user = user
    this.#child = user.start('attach', 'vm')
    this.#child.stdout?.setEncoding('latin1').on('data', (part: string) => (this.#text += part))
    this.#ended = finish(this.#child).then((ran) => {
      this.#ran = ran
    })
  }

  /** Where what is new begins: a terminal is shown what was printed before, in one piece. */
  async tail(): Promise<number> {
    return this.#wait(() => (this.#text === '' ? null : this.#text.length), 'a console')
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
    const found = await this.#wait(search, name)
    return found[1] ?? found[0]
  }

  async #wait<T>(check: () => T | null, name: string): Promise<T> {
    const look = (): T | null => {
      const found = check()
      if (found === null && this.#ran !== null) {
        throw new Error(`${name}: attach ended: ${JSON.stringify(this.#ran)}`)
      }
      return found
    }
    return eventually(look, name, 60_000).catch(async (error: unknown) => {
      const now = (await this.#user.run('status', 'vm')).stdout
      throw new Error(`${String(error)}\n${this.#text.slice(-500)}\n${now}`, { cause: error })
    })
  }

  async close(): Promise<void> {
    this.#child.stdin?.end()
    await this.#ended
  }
}

/** Types a letter on the console of the guest of `diskRom`. */
export async function touch(user: User, letter: string, answer: string): Promise<void> {
  const console = new Console(user)
  try {
    console.send(letter)
    await console.find(new RegExp(`${letter}=${answer}\\r\\n`), 0, letter)
  } finally {
    await console.close()
  }
}

/** QEMUs that run in a folder of sockets in `dir`. */
export async function monitorsOf(dir: string): Promise<number[]> {
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

export async function endMonitors(dir: string): Promise<void> {
  for (const pid of await monitorsOf(dir)) process.kill(pid, 'SIGKILL')
}

export async function monitor(user: User): Promise<number> {
  const [pid, ...others] = await monitorsOf(user.home)
  assert.ok(pid !== undefined && others.length === 0, 'one QEMU')
  return pid
}

/** Waits until the guest cannot go on without a host that is not there, and status says so. */
export async function stalled(user: User): Promise<ParcelInfo> {
  return eventually(async () => {
    const info = await status(user)
    return info.images?.stall === null || info.images === null ? null : info
  }, 'a stall in the status')
}
