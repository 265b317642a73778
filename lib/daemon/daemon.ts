import { setTimeout } from 'node:timers/promises'
import { ParcelError } from '../errors.js'
import { Host, type HostOptions } from '../host.js'
import { Vaults } from '../host/vaults.js'
import { DaemonServer } from './server.js'

export interface DaemonOptions extends HostOptions {
  /** Ends by itself after this many ms of idleness; null: it stays. */
  idle: number | null
  signal: AbortSignal
  /** Called once it answers. */
  onReady: (socketHome: string) => void
}

const TICK = 100

/**
 * Runs the daemon of a home until it is stopped, aborted or idle for too long. It is the one
 * process that has the store open. Throws what opening a host throws.
 */
export async function runDaemon({
  idle,
  signal,
  onReady,
  ...options
}: DaemonOptions): Promise<void> {
  const stop = new AbortController()
  const ended = AbortSignal.any([signal, stop.signal])
  let isDone = false
  for (let isFirst = true; !isDone; isFirst = false) {
    const host = await Host.open(options)
    const vaults = await Vaults.open(host, options.bootstrap)
    const server = new DaemonServer(host, vaults, {
      bootstrap: options.bootstrap ?? process.env['HYPERPARCEL_BOOTSTRAP'] ?? '',
      idleLimit: idle === null ? null : idle / 1_000,
      onStop: () => stop.abort()
    })
    try {
      await server.listen()
      if (isFirst) onReady(host.home.dir)
      isDone = await untilDone(host, vaults, server, idle, ended)
    } finally {
      await server.close()
      await vaults.close()
      await host.close()
    }
  }
}

/** false: only the store must be opened anew, as after a full disk. */
async function untilDone(
  host: Host,
  vaults: Vaults,
  server: DaemonServer,
  idle: number | null,
  signal: AbortSignal
): Promise<boolean> {
  for (;;) {
    const displaced = (await host.isDisplaced()) ? host.home.dir : vaults.displaced
    if (displaced !== null) endAtOnce(displaced)
    const idleFor = server.idleFor()
    if (signal.aborted || (idle !== null && idleFor >= idle)) return true
    if (host.isBroken && idleFor > 0 && (await host.canReopen())) return false
    await setTimeout(TICK, undefined, { signal }).catch(() => {})
  }
}

/** Nothing is closed: that would write into the store which is in the same place now. */
function endAtOnce(dir: string): never {
  console.error(
    `hyperparcel: ${dir} was removed, moved or replaced while it was open: the daemon ends`
  )
  process.exit(1)
}

/** How long a daemon that a verb started waits for the next, ms: HYPERPARCEL_IDLE seconds, else 10 minutes. */
export function idleLimit(): number {
  const text = process.env['HYPERPARCEL_IDLE'] ?? ''
  if (text === '') return 600_000
  const seconds = Number(text)
  if (Number.isFinite(seconds) && seconds >= 0) return seconds * 1_000
  throw new ParcelError('USAGE', 'HYPERPARCEL_IDLE is a number of seconds')
}
