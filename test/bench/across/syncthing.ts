import { spawn, spawnSync, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { z } from 'zod'

const Status = z.object({
  state: z.string(),
  globalBytes: z.number(),
  needBytes: z.number(),
  needDeletes: z.number(),
  sequence: z.number(),
  errors: z.number()
})
const KEY = 'bench'

interface Settings {
  home: string
  folder: string
  /** Ports on 127.0.0.1. */
  listen: number
  api: number
  type: 'sendonly' | 'receiveonly'
}

/** One Syncthing that knows one other, on loopback alone: no discovery, relay, NAT or reports. */
export class Syncthing {
  readonly id: string
  readonly #settings: Settings
  #child: ChildProcess | null = null

  private constructor(id: string, settings: Settings) {
    this.id = id
    this.#settings = settings
  }

  static async create(settings: Settings): Promise<Syncthing> {
    const { home, folder } = settings
    await mkdir(folder, { recursive: true })
    run('generate', `--home=${home}`, '--no-default-folder')
    return new Syncthing(run('--device-id', `--home=${home}`).trim(), settings)
  }

  get pid(): number {
    return this.#child?.pid ?? 0
  }

  async start(other: Syncthing): Promise<void> {
    const { home } = this.#settings
    const address = (port: number): string => `tcp://127.0.0.1:${port}`
    await writeFile(join(home, 'config.xml'), this.#config(other, address))
    const args = ['serve', `--home=${home}`, '--no-browser', '--no-restart', '--no-upgrade']
    // Else it watches over a second process, which would have to be found to be counted.
    const env = { ...process.env, STMONITORED: 'yes', STNOUPGRADE: '1' }
    this.#child = spawn('syncthing', args, { env, stdio: 'ignore' })
    // Should this process fail, it must not be left behind.
    process.once('exit', () => this.#child?.kill('SIGKILL'))
    while (!(await this.#isUp())) await setTimeout(50)
  }

  async connected(other: Syncthing): Promise<void> {
    const Connections = z.object({
      connections: z.record(z.string(), z.object({ connected: z.boolean() }))
    })
    for (;;) {
      const { connections } = Connections.parse(await this.#get('system/connections'))
      if (connections[other.id]?.connected === true) return
      await setTimeout(50)
    }
  }

  async scan(): Promise<void> {
    await this.#ask('db/scan?folder=bench', 'POST')
  }

  async status(): Promise<z.infer<typeof Status>> {
    return Status.parse(await this.#get('db/status?folder=bench'))
  }

  async stop(): Promise<void> {
    const child = this.#child
    if (child === null || child.exitCode !== null) return
    const ended = once(child, 'exit')
    child.kill('SIGTERM')
    await ended
  }

  async #isUp(): Promise<boolean> {
    try {
      await this.#get('system/ping')
      return true
    } catch {
      return false
    }
  }

  async #get(path: string): Promise<unknown> {
    return (await this.#ask(path, 'GET')).json()
  }

  async #ask(path: string, method: 'GET' | 'POST'): Promise<Response> {
    const url = `http://127.0.0.1:${this.#settings.api}/rest/${path}`
    const response = await fetch(url, { method, headers: { 'X-API-Key': KEY } })
    if (!response.ok) throw new Error(`syncthing: ${path}: ${response.status}`)
    return response
  }

  #config(other: Syncthing, address: (port: number) => string): string {
    const { folder, listen, api, type } = this.#settings
    const device = (each: Syncthing): string =>
      `<device id="${each.id}" compression="metadata"><address>${address(each.#settings.listen)}</address></device>`
    const off = [
      'globalAnnounceEnabled',
      'localAnnounceEnabled',
      'relaysEnabled',
      'natEnabled',
      'startBrowser',
      'crashReportingEnabled',
      'setLowPriority'
    ]
    return `<configuration version="36">
      <folder id="bench" path="${folder}" type="${type}" rescanIntervalS="0" fsWatcherEnabled="false">
        <device id="${this.id}"></device><device id="${other.id}"></device>
      </folder>
      ${device(this)}${device(other)}
      <gui enabled="true" tls="false"><address>127.0.0.1:${api}</address><apikey>${KEY}</apikey></gui>
      <options>
        <listenAddress>${address(listen)}</listenAddress>
        ${off.map((name) => `<${name}>false</${name}>`).join('')}
        <reconnectionIntervalS>1</reconnectionIntervalS>
        <urAccepted>-1</urAccepted>
        <autoUpgradeIntervalH>0</autoUpgradeIntervalH>
      </options>
    </configuration>`
  }
}

function run(...args: string[]): string {
  const { status, stdout, stderr } = spawnSync('syncthing', args, { encoding: 'utf8' })
  if (status !== 0) throw new Error(`syncthing ${args.join(' ')}: ${stdout}${stderr}`)
  return stdout
}
