import { join } from 'node:path'
import { describeVersion } from './describe.js'
import { ParcelError } from './errors.js'
import { MAX_TEXT } from './format/limits.js'
import type { Home } from './home.js'
import type { SuspendOptions, SuspendResult } from './info.js'
import type { DirtyMap } from './parcel/scan.js'
import type { Parcel } from './parcel/parcel.js'
import type { Work } from './progress.js'
import type { Driver } from './vmm/driver.js'
import { driverNamed } from './vmm/drivers.js'
import { MachineProcess } from './vmm/machine-process.js'
import { CONSOLE_LOG, hasMachineState, isScratch, removeMachineState } from './vmm/state-files.js'

/**
 * A parcel's machine on this host: it runs in a process of its own, or is stopped in the parcel's
 * folder. Nothing of it is remembered here, since it outlives whoever started it. One verb at a
 * time on a parcel is the host's affair.
 */
export class ParcelMachine {
  /** Folder of the running machine's socket. */
  readonly runDir: string
  readonly process: MachineProcess
  readonly #home: Home
  readonly #parcel: Parcel

  constructor(home: Home, parcel: Parcel) {
    this.runDir = join(home.dir, 'run', parcel.id.toString('hex', 0, 8))
    this.process = new MachineProcess(this.runDir)
    this.#home = home
    this.#parcel = parcel
  }

  /** Throws RUNNING. */
  async requireStopped(): Promise<void> {
    if ((await this.process.status()) === null) return
    const { name } = this.#parcel
    throw new ParcelError('RUNNING', `"${name}" is running here: suspend or stop it first`)
  }

  /**
   * Starts it from the folder: where it stopped if its state is there, else (`cold`: in any case)
   * from the beginning. Throws RUNNING, CONFLICT when it is suspended, VMM_FAILED, BAD_MACHINE.
   */
  async run(cold: boolean): Promise<{ screen: string | null }> {
    const parcel = this.#parcel
    const driver = driverNamed(parcel.driver)
    const path = requirePath(parcel)
    await this.requireStopped()
    const hasState = await hasMachineState(driver, path)
    if (cold) {
      await removeMachineState(driver, path)
    } else if (!hasState && (await this.#isSuspended(driver))) {
      throw new ParcelError(
        'CONFLICT',
        `"${parcel.name}" is suspended: 'hyperparcel resume ${parcel.name}' goes on where it ` +
          `stopped ('run --cold' boots it anew and forgets its memory)`
      )
    }
    const resume = hasState && !cold
    const screen = await this.process.start({ driver: driver.name, dir: path, resume })
    await parcel.folder.setStarted()
    return { screen }
  }

  /**
   * Makes a durable version of the folder, of a running machine while it stands still; `after`
   * says what becomes of it then. Throws NOT_RUNNING when there is nothing new to store.
   */
  async commit(
    after: 'end' | 'proceed',
    { message = '', compress = true, scan = 'mtime', dirty = {} }: SuspendOptions,
    work: Work
  ): Promise<SuspendResult> {
    if (Buffer.byteLength(message) > MAX_TEXT) {
      throw new ParcelError('USAGE', `a message has at most ${MAX_TEXT} bytes`)
    }
    requireRanges(dirty)
    const parcel = this.#parcel
    const driver = driverNamed(parcel.driver)
    const path = requirePath(parcel)
    const store = async (): Promise<SuspendResult> => {
      const described = await driver.describe(path)
      const request = {
        path,
        roles: { [CONSOLE_LOG]: 'log' as const, ...described.roles },
        exclude: isScratch(driver),
        facts: await driver.facts(described),
        message,
        compress,
        scan,
        dirty
      }
      const { version, skipped } = await parcel.commit(request, work)
      return { version: await describeVersion(parcel, version, this.#home), skipped }
    }
    if ((await this.process.status()) !== null) {
      const result = await this.process.captured(after, store)
      // Memory and device state are in the log now, sealed; in the clear they are not left behind.
      if (after === 'end') await removeMachineState(driver, path)
      else await parcel.folder.setStarted()
      return result
    }
    if (driver.statePaths.length > 0 && after === 'proceed') {
      throw new ParcelError('NOT_RUNNING', `"${parcel.name}" is not running: 'suspend' it instead`)
    }
    if (!(await hasMachineState(driver, path)) && (await this.#isSuspended(driver))) {
      throw new ParcelError('NOT_RUNNING', `"${parcel.name}" is suspended already: nothing to do`)
    }
    const result = await store()
    await removeMachineState(driver, path)
    return result
  }

  /** Whether the folder's version holds a stopped guest that has not gone on here since. */
  async #isSuspended(driver: Driver): Promise<boolean> {
    if (driver.statePaths.length === 0 || this.#parcel.folder.isStarted) return false
    const base = this.#parcel.folder.baseVersion()
    if (base === null) return false
    for await (const { entry } of this.#parcel.contents(base)) {
      if (driver.statePaths.includes(entry.path.toString())) return true
    }
    return false
  }
}

function requireRanges(dirty: DirtyMap): void {
  for (const [path, ranges] of Object.entries(dirty)) {
    const wrong = ranges.find((range) => !range.every((n) => Number.isSafeInteger(n) && n >= 0))
    if (wrong === undefined) continue
    throw new ParcelError('USAGE', `not a range of ${path}: [${wrong.join(', ')}]`)
  }
}

function requirePath(parcel: Parcel): string {
  if (parcel.folder.path !== null) return parcel.folder.path
  throw new ParcelError('CONFLICT', `"${parcel.name}" has no folder here yet: resume it first`)
}
