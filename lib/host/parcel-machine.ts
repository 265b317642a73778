import { lstat, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { describeVersion } from './describe.js'
import { ParcelError } from '../errors.js'
import { hasOverlays, readMarker, writeMarker, type Marker } from '../export/image-set.js'
import { readWorkingSet } from '../export/last-working-set.js'
import { MAX_TEXT } from '../format/limits.js'
import type { Home } from '../home.js'
import type { SuspendOptions, SuspendResult } from '../info.js'
import { placeOf } from './open-images.js'
import type { Ahead } from '../parcel/commit/author.js'
import type { Served } from '../parcel/checkout/check-out.js'
import type { CommitRequest } from '../parcel/commit/new-version.js'
import type { DirtyMap } from '../parcel/commit/scan.js'
import type { Known } from '../parcel/history.js'
import type { Parcel } from '../parcel/parcel.js'
import type { Skipped } from '../parcel/commit/walk.js'
import type { Work } from '../progress.js'
import type { Driver, Facts } from '../vmm/driver.js'
import { driverNamed } from '../vmm/drivers.js'
import type { ServedImages } from '../vmm/machine-folder.js'
import type { ImagesSpec } from '../vmm/machine-images.js'
import { MachineProcess } from '../vmm/machine-process.js'
import { namespaceOf } from '../vmm/namespace.js'
import { CONSOLE_LOG, hasMachineState, isScratch, removeMachineState } from '../vmm/state-files.js'

/** In a machine's folder: what was written to files that are served. */
const OVERLAYS = 'state/images'

/** How a folder is stored. */
interface How {
  /** Of the machine that runs there; null: none does. */
  facts: Facts | null
  /** Default true: memory is there, and what belongs to it. */
  hasState?: boolean
  /** As in `CommitRequest`. */
  isPacking: boolean
  /** Bytes that were stored ahead. */
  stored?: number
}

interface Stored {
  request: CommitRequest
  known: Known
  skipped: Skipped[]
  fetched: number
}

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

  /** Throws NOT_RUNNING for a folder, which has no machine. */
  requireMachine(): void {
    const { name, driver } = this.#parcel
    if (driverNamed(driver).statePaths.length > 0) return
    throw new ParcelError('NOT_RUNNING', `"${name}" is a folder: it has no machine`)
  }

  /** Throws RUNNING. */
  async requireStopped(): Promise<void> {
    if ((await this.process.status()) === null) return
    const { name } = this.#parcel
    throw new ParcelError('RUNNING', `"${name}" is running here: suspend or stop it first`)
  }

  /**
   * Starts it from the folder: where it stopped if its state is there, else (`cold`: in any case)
   * from the beginning. Files that are not in the folder are served; with `prefetch` false nothing
   * of them is fetched that is not read. Throws RUNNING, CONFLICT when it is suspended, VMM_FAILED,
   * BAD_MACHINE.
   */
  async run({ cold = false, prefetch = true } = {}): Promise<{ screen: string | null }> {
    const parcel = this.#parcel
    const driver = driverNamed(parcel.driver)
    const path = requirePath(parcel)
    await this.requireStopped()
    const marker = await markerIn(driver, path)
    const served = new Set(marker?.files ?? [])
    const hasState = await hasMachineState(driver, path, served)
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
    // A machine that boots has a memory of its own.
    const files: string[] = []
    for (const file of served) {
      const isOld = !resume && driver.statePaths.includes(file)
      // One that somebody put into the folder is what counts.
      if (!isOld && !(await isIn(path, file))) files.push(file)
    }
    const images = marker === null ? null : await this.#images(path, { ...marker, files }, prefetch)
    const isMounted = images?.isMounted === true && driver.needsServer
    const screen = await this.process.start({
      driver: driver.name,
      dir: path,
      resume,
      images,
      by: isMounted ? namespaceOf() : []
    })
    await parcel.folder.setStarted()
    return { screen }
  }

  /** Starts what `run` will need, so that it need not wait for that; `isServed`: its memory is. */
  prepare({ isServed }: { isServed: boolean }): void {
    const isMounted = isServed && driverNamed(this.#parcel.driver).needsServer
    this.process.prepare({ by: isMounted ? namespaceOf() : [], hasImages: isMounted })
  }

  /** Says in a folder that files of a version are not in it, because they are served. */
  static async mark(path: string, version: string, files: readonly string[]): Promise<void> {
    await writeMarker(overlaysIn(path), { version, files: [...files] })
  }

  /** Which files of a version's folder are served instead of being in it; null: all of it is in it. */
  static async asServed(parcel: Parcel, path: string, version: Buffer): Promise<Served | null> {
    const marker = await markerIn(driverNamed(parcel.driver), path)
    if (marker === null) return null
    const files = new Set(marker.files)
    return {
      isServed: ({ type, path: file }) => type === 'file' && files.has(file.toString()),
      mark: (dir) => ParcelMachine.mark(dir, version.toString('hex'), [...files])
    }
  }

  /** Which files are served, and whether any of them has what no version has. */
  static async served(
    parcel: Parcel,
    path: string
  ): Promise<{ files: ReadonlySet<string>; isDirty: boolean }> {
    const marker = await markerIn(driverNamed(parcel.driver), path)
    // Of a machine that was suspended, what was written may not be tidied away yet.
    const isDirty = parcel.folder.isStarted && (await hasOverlays(overlaysIn(path)))
    return { files: new Set(marker?.files ?? []), isDirty }
  }

  /**
   * Makes a durable version of the folder, of a running machine while it stands still; `after`
   * says what becomes of it then. What goes on is stored `ahead` as far as that is possible. Throws
   * NOT_RUNNING when there is nothing new to store.
   */
  async commit(
    after: 'end' | 'proceed',
    options: SuspendOptions & { ahead?: Ahead },
    work: Work
  ): Promise<SuspendResult> {
    if (Buffer.byteLength(options.message ?? '') > MAX_TEXT) {
      throw new ParcelError('USAGE', `a message has at most ${MAX_TEXT} bytes`)
    }
    requireRanges(options.dirty ?? {})
    const parcel = this.#parcel
    const driver = driverNamed(parcel.driver)
    const path = requirePath(parcel)
    if ((await this.process.status()) !== null) {
      if (after === 'end') {
        const store = (facts: Facts) => this.#store(options, { facts, isPacking: true }, work)
        const { result } = await this.process.captured(after, store)
        // Memory and device state are in the log now, sealed; in the clear they are not left behind.
        await this.#tidy(driver, path, result.known)
        return this.#resultOf(result)
      }
      return this.#checkpoint(options, work)
    }
    if (driver.statePaths.length > 0 && after === 'proceed') {
      throw new ParcelError('NOT_RUNNING', `"${parcel.name}" is not running: 'suspend' it instead`)
    }
    const isStopped = await hasMachineState(driver, path)
    if (!isStopped && (await this.#isSuspended(driver))) {
      throw new ParcelError('NOT_RUNNING', `"${parcel.name}" is suspended already: nothing to do`)
    }
    const why = isStopped ? null : await this.process.lastWords()
    if (why !== null)
      work.note(`the machine had ended by itself (${why}): its disk is stored as it is`)
    const stored = await this.#store(
      options,
      { facts: null, hasState: isStopped, isPacking: true },
      work
    )
    await this.#tidy(driver, path, stored.known)
    return this.#resultOf(stored)
  }

  /**
   * Stores what a running machine has changed by now, as far as that is possible, while it runs on; `rest`
   * as in `Author.storeAhead`.
   */
  async storeAhead(
    options: SuspendOptions,
    { rest = async () => {}, work }: { rest?: (worked: number) => Promise<void>; work: Work }
  ): Promise<Ahead> {
    try {
      await this.process.settle()
      const request = await this.#request(options, { facts: {}, isPacking: false })
      return await this.#parcel.author.storeAhead(request, { rest, work })
    } catch {
      work.signal.throwIfAborted()
      // What is wrong with it the commit will meet as well, and say.
      return { stored: 0, fetched: 0 }
    }
  }

  async #checkpoint(
    { ahead = { stored: 0, fetched: 0 }, ...options }: SuspendOptions & { ahead?: Ahead },
    work: Work
  ): Promise<SuspendResult> {
    const more = await this.storeAhead(options, { work })
    const sum = { stored: ahead.stored + more.stored, fetched: ahead.fetched + more.fetched }
    // What a resume wants first is told, and packed, when the guest does not wait for it.
    const store = (facts: Facts) =>
      this.#store(options, { facts, isPacking: false, stored: sum.stored }, work)
    const { result, paused } = await this.process.captured('proceed', store)
    await this.#parcel.folder.setStarted()
    await this.#parcel.author
      .addTrace(result.known, result.request, work)
      // It is but a hint, and the version is there.
      .catch((error: unknown) => work.note(`no trace: ${ParcelError.from(error).message}`))
    const told = await this.#resultOf(result)
    return { ...told, fetched: told.fetched + sum.fetched, paused }
  }

  async #store(options: SuspendOptions, how: How, work: Work): Promise<Stored> {
    const request = await this.#request(options, how)
    const { version, skipped, fetched } = await this.#parcel.author.commit(request, work)
    return { request, known: version, skipped, fetched }
  }

  async #resultOf({ known, skipped, fetched }: Stored): Promise<SuspendResult> {
    const version = await describeVersion(this.#parcel, known, this.#home)
    return { version, skipped, fetched, paused: null }
  }

  async #request(
    { message = '', compress = true, scan = 'mtime', dirty = {}, offline = false }: SuspendOptions,
    { facts, hasState = true, isPacking, stored = 0 }: How
  ): Promise<CommitRequest> {
    const driver = driverNamed(this.#parcel.driver)
    const path = requirePath(this.#parcel)
    const isScratchFile = isScratch(driver)
    const marker = await markerIn(driver, path)
    const machine = await driver.describe(path, marker === null ? null : namesOf(marker))
    const request: CommitRequest = {
      path,
      roles: { [CONSOLE_LOG]: 'log' as const, ...machine.roles },
      // Memory without the devices that belong to it is nobody's.
      exclude: (file) => isScratchFile(file) || (!hasState && driver.statePaths.includes(file)),
      facts: facts ?? this.#factsOf(marker) ?? (await driver.facts(machine)),
      message,
      compress,
      scan,
      dirty,
      offline,
      ahead: stored
    }
    if (marker === null) return request
    const used = await readWorkingSet(overlaysIn(path))
    const images = imagesOf(path, marker, driver, facts !== null)
    return { ...request, images: { ...images, used, isPacking } }
  }

  /** All of it is in a version now: files that are served are served out of that. */
  async #tidy(driver: Driver, path: string, { id }: Known): Promise<void> {
    await removeMachineState(driver, path)
    const marker = await markerIn(driver, path)
    if (marker === null) return
    await rm(overlaysIn(path), { recursive: true, force: true })
    await writeMarker(overlaysIn(path), { ...marker, version: id.toString('hex') })
  }

  async #images(path: string, marker: Marker, prefetch: boolean): Promise<ImagesSpec> {
    const known = this.#parcel.history.get(Buffer.from(marker.version, 'hex'))
    if (known === null) {
      throw new ParcelError('UNREACHABLE', `the version that ${path} continues is not here`)
    }
    const overlays = overlaysIn(path)
    const { items } = placeOf(this.#home, this.#parcel, known, { prefetch, overlays })
    const files = marker.files ?? []
    // Disks are block devices; memory is mapped.
    const { statePaths } = driverNamed(this.#parcel.driver)
    const isMounted = files.some((file) => statePaths.includes(file))
    return { items, overlays, files, isMounted }
  }

  /** Of a machine that does not run and whose files this process cannot see. */
  #factsOf(marker: Marker | null): Facts | null {
    if (marker === null) return null
    return this.#parcel.history.get(Buffer.from(marker.version, 'hex'))?.version.facts ?? null
  }

  /** Whether the folder's version holds a stopped guest that has not gone on here since. */
  async #isSuspended(driver: Driver): Promise<boolean> {
    if (driver.statePaths.length === 0 || this.#parcel.folder.isStarted) return false
    const base = this.#parcel.folder.baseVersion()
    if (base === null) return false
    const missing = new Set(driver.statePaths)
    for await (const { entry } of this.#parcel.files.contents(base))
      missing.delete(entry.path.toString())
    return missing.size === 0
  }
}

async function isIn(path: string, file: string): Promise<boolean> {
  return lstat(join(path, file)).then(
    () => true,
    () => false
  )
}

/** null: all of it is in its folder, as always where nothing is ever served: what is there is the user's. */
async function markerIn({ imageRoles }: Driver, path: string): Promise<Marker | null> {
  return imageRoles.length === 0 ? null : readMarker(overlaysIn(path))
}

function overlaysIn(path: string): string {
  return join(path, OVERLAYS)
}

/** Served files as a process knows them that does not see them. */
function namesOf({ files }: Marker): ServedImages {
  const look = async (): Promise<never> => {
    throw new Error('this process does not see the images')
  }
  return { files: new Set(files), mount: null, nbd: null, look, volume: () => null }
}

function imagesOf(
  path: string,
  { version, files }: Marker,
  driver: Driver,
  isRunning: boolean
): Omit<NonNullable<CommitRequest['images']>, 'used' | 'isPacking'> {
  const names = (files ?? []).filter((file) => isRunning || !driver.statePaths.includes(file))
  const wanted = new Set(names)
  return {
    version: Buffer.from(version, 'hex'),
    overlays: overlaysIn(path),
    isImage: (entry) => wanted.has(entry.path.toString())
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
