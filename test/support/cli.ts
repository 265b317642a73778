import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import { fileURLToPath } from 'node:url'
import { DaemonClient } from '../../lib/index.js'
import { onEnd } from './on-end.js'

const MAIN = fileURLToPath(new URL('../../cli/main.js', import.meta.url))

export interface Ran {
  code: number | null
  stdout: string
  stderr: string
}

/** The command line as a user has it, for one home. Daemons that it started end with the test. */
export class Cli {
  readonly home: string
  readonly #env: NodeJS.ProcessEnv
  readonly #cwd: string

  constructor(t: TestContext, home: string, bootstrap: string, cwd: string) {
    this.home = home
    this.#cwd = cwd
    this.#env = {
      ...process.env,
      HYPERPARCEL_HOME: home,
      HYPERPARCEL_BOOTSTRAP: bootstrap,
      HYPERPARCEL_IDLE: '120'
    }
    onEnd(t, () => new DaemonClient({ home }).stop())
  }

  /** Starts a command and leaves it to the caller, who must see it end. */
  start(...args: string[]): ChildProcess {
    return spawn(process.execPath, [MAIN, ...args], { env: this.#env, cwd: this.#cwd })
  }

  /** Runs a command to its end. */
  async run(...args: string[]): Promise<Ran> {
    const child = this.start(...args)
    child.stdin?.end()
    return finish(child)
  }

  /** Runs a command that must succeed; returns the objects that it printed with --json. */
  async json(...args: string[]): Promise<Record<string, unknown>[]> {
    const { code, stdout, stderr } = await this.run(...args, '--json')
    if (code !== 0) throw new Error(`${args.join(' ')}: exit ${code}\n${stdout}${stderr}`)
    return stdout
      .split('\n')
      .filter((line) => line !== '')
      .map((line): Record<string, unknown> => JSON.parse(line))
  }

  /** The last object that a command printed: its result. */
  async result(...args: string[]): Promise<Record<string, unknown>> {
    const last = (await this.json(...args)).at(-1)
    if (last === undefined) throw new Error(`${args.join(' ')}: printed nothing`)
    return last
  }
}

/** Two homes on a DHT, side by side in `dir`. */
export function homeIn(dir: string, name: string): string {
  return join(dir, 'homes', name)
}

export async function finish(child: ChildProcess): Promise<Ran> {
  let stdout = ''
  let stderr = ''
  child.stdout?.setEncoding('utf8').on('data', (text: string) => (stdout += text))
  child.stderr?.setEncoding('utf8').on('data', (text: string) => (stderr += text))
  const [code]: unknown[] = await once(child, 'close')
  return { code: typeof code === 'number' ? code : null, stdout, stderr }
}
