import assert from 'node:assert/strict'
import { spawn, type ChildProcess } from 'node:child_process'
import { mkdir, readdir, readFile, readlink, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import type { TestContext } from 'node:test'
import { fileURLToPath } from 'node:url'
import { DaemonClient } from '../../lib/index.js'
import { finish, homeIn, type Ran } from '../support/cli.js'
import { eventually, testDht } from '../support/hosts.js'
import { onEnd } from '../support/on-end.js'
import { scratch } from '../support/scratch.js'

const MAIN = fileURLToPath(new URL('../../cli/main.js', import.meta.url))
export const NOBODY = 65_534
export const isRoot = process.getuid?.() === 0

interface UserOptions {
  /** Run as this user; needs root. */
  uid?: number
  env?: NodeJS.ProcessEnv
  /** A program that runs what follows it, and its arguments. */
  by?: readonly string[]
}

/** Where a test's hosts live: a folder, a private DHT. Every process that a home still has is ended after the test. */
export class Place {
  readonly dir: string
  readonly bootstrap: string

  private constructor(dir: string, bootstrap: string) {
    this.dir = dir
    this.bootstrap = bootstrap
  }

  static async make(t: TestContext): Promise<Place> {
    const dir = await scratch(t)
    const dht = await testDht(t)
    onEnd(t, () => endAll(dir))
    return new Place(dir, dht.address)
  }

  /** A user of the command line with a home of their own that is not made yet. */
  user(name: string, { uid, env = {}, by = [] }: UserOptions = {}): User {
    const all = { HYPERPARCEL_BOOTSTRAP: this.bootstrap, HYPERPARCEL_IDLE: '120', ...env }
    return new User(homeIn(this.dir, name), { uid: uid ?? null, by }, all)
  }

  /** A user whose home is made. */
  async host(name: string, options: UserOptions = {}): Promise<User> {
    const user = this.user(name, options)
    await user.ok('init', '--name', name)
    return user
  }

  path(...names: string[]): string {
    return join(this.dir, ...names)
  }

  async write(path: string, contents: string | Uint8Array): Promise<string> {
    const absolute = this.path(path)
    await mkdir(dirname(absolute), { recursive: true })
    await writeFile(absolute, contents)
    return absolute
  }
}

export type Printed = Record<string, unknown>

export class User {
  readonly home: string
  readonly #who: { uid: number | null; by: readonly string[] }
  readonly #env: NodeJS.ProcessEnv

  constructor(
    home: string,
    who: { uid: number | null; by: readonly string[] },
    env: NodeJS.ProcessEnv
  ) {
    this.home = home
    this.#who = who
    this.#env = { ...process.env, HYPERPARCEL_HOME: home, ...env }
  }

  /** Another way to run for the same home. */
  with(env: NodeJS.ProcessEnv): User {
    return new User(this.home, this.#who, { ...this.#env, HYPERPARCEL_HOME: this.home, ...env })
  }

  get client(): DaemonClient {
    return new DaemonClient({ home: this.home })
  }

  /** What `start` runs, for whoever starts it by another program. */
  command(...args: string[]): { command: string[]; env: NodeJS.ProcessEnv } {
    return { command: [...this.#who.by, process.execPath, MAIN, ...args], env: this.#env }
  }

  start(...args: string[]): ChildProcess {
    const { uid } = this.#who
    const who = uid === null ? {} : { uid, gid: uid }
    const { command, env } = this.command(...args)
    const [program = '', ...rest] = command
    return spawn(program, rest, { env, cwd: '/', ...who })
  }

  async run(...args: string[]): Promise<Ran> {
    const child = this.start(...args)
    child.stdin?.end()
    return finish(child)
  }

  /** Runs what must succeed; returns what it printed on standard output. */
  async ok(...args: string[]): Promise<string> {
    const { code, stdout, stderr } = await this.run(...args)
    assert.equal(code, 0, `${args.join(' ')}: exit ${code}\n${stdout}${stderr}`)
    return stdout
  }

  /** The last object that a command printed with --json: its result. */
  async result(...args: string[]): Promise<Printed> {
    const last = objects(await this.ok(...args, '--json')).at(-1)
    assert.ok(last, `${args.join(' ')} printed nothing`)
    return last
  }

  /** Runs what must fail with this exit status and one clear line; returns the line. */
  async fails(exit: number, ...args: string[]): Promise<string> {
    return failure(await this.run(...args), exit, args.join(' ').slice(0, 60))
  }

  async daemonPid(): Promise<number> {
    const status = await this.client.status()
    assert.ok(status, 'no daemon runs')
    return status.pid
  }

  /** Ends this home's daemon as a crash would, and waits until it is gone. */
  async killDaemon(): Promise<void> {
    const pid = await this.daemonPid()
    process.kill(pid, 'SIGKILL')
    await gone(pid)
  }
}

/** Asserts an exit status and that all of standard error is one line for a person. */
export function failure({ code, stdout, stderr }: Ran, exit: number, what: string): string {
  assert.equal(code, exit, `${what}: exit ${code}\n${stdout}${stderr}`.slice(0, 1_000))
  const lines = stderr.split('\n').filter((line) => line !== '' && !isNote(line))
  assert.equal(lines.length, 1, `${what}: not one line:\n${stderr}`.slice(0, 1_000))
  const [line = ''] = lines
  assert.match(line, /^hyperparcel: \S/, what)
  assert.ok(line.length < 400, `${what}: too long a line: ${line.slice(0, 400)}`)
  assert.doesNotMatch(line, /\bat .*:\d+:\d+|node:internal|Error:|undefined|\[object|✖/, what)
  return line
}

/** Progress and notes may come before the error. */
function isNote(line: string): boolean {
  return /^(asking|fetching|storing|writing|left out|read again|not heard)\b/.test(line)
}

export function objects(stdout: string): Printed[] {
  return stdout
    .split('\n')
    .filter((line) => line !== '')
    .map((line): Printed => JSON.parse(line))
}

/** Waits until a process is gone (or only waits for its parent to notice). */
export async function gone(pid: number): Promise<void> {
  await eventually(async () => {
    const text = await readFile(`/proc/${pid}/stat`, 'latin1').catch(() => null)
    return text === null || / [ZX] /.test(text.slice(text.lastIndexOf(')'))) ? true : null
  }, `the end of process ${pid}`)
}

/** Processes whose command line names something in `dir`: daemons and supervisors of its homes. */
export async function processesOf(dir: string, kind = ''): Promise<number[]> {
  const found: number[] = []
  for (const name of await readdir('/proc')) {
    if (!/^\d+$/.test(name) || Number(name) === process.pid) continue
    const command = await readFile(`/proc/${name}/cmdline`, 'utf8').catch(() => '')
    const exe = await readlink(`/proc/${name}/exe`).catch(() => '')
    if (exe === process.execPath && command.includes(dir) && command.includes(kind)) {
      found.push(Number(name))
    }
  }
  return found
}

/** Ends what a place's homes still have, as a crash would. */
export async function endAll(dir: string): Promise<void> {
  for (const pid of await processesOf(dir)) {
    try {
      process.kill(pid, 'SIGKILL')
    } catch {
      // It ended by itself.
    }
    await gone(pid)
  }
}
