import { EventEmitter, once } from 'node:events'
import { rm } from 'node:fs/promises'
import { resolve } from 'node:path'
import { describeVersion, namesOfMembers } from './describe.js'
import { ParcelError } from '../errors.js'
import { hasOverlays, lockFolder, readMarker } from '../export/image-set.js'
import { printable } from '../format/file-table.js'
import { MAX_PARENTS, MAX_TEXT } from '../format/limits.js'
import type { Home } from '../home.js'
import type { FileInfo, VersionInfo } from '../info.js'
import { isLabel, memberNamed, requireLabel, requireName } from '../names.js'
import { homeOverlays } from './open-images.js'
import { differences, type Change } from '../parcel/diff.js'
import type { NextSite } from './next-site.js'
import { requireHead } from '../parcel/head.js'
import { branchName, type Known } from '../parcel/history.js'
import { MAX_COPIES } from '../parcel/local-state.js'
import type { Parcel } from '../parcel/parcel.js'
import type { ParcelList } from './parcel-list.js'
import { ParcelMachine } from './parcel-machine.js'
import { namesIn, overlaps, realDestination } from '../paths.js'
import { Task, type Work } from '../progress.js'
import { chooseVersion, isStateOf } from './resume.js'
import { driverNamed } from '../vmm/drivers.js'

const TIMEOUT = 60_000

interface Parts {
  home: Home
  parcels: ParcelList
  nextSite: NextSite
  /** One thing at a time on a parcel, in the order asked for; null: on the list of parcels. */
  alone: <T>(parcel: Parcel | null, work: () => Promise<T>) => Promise<T>
}

interface Reading {
  /** How long to wait for hosts that do not answer, ms. */
  timeout?: number
}

/**
 * What can be done with the versions of a parcel besides making and resuming them. A version is
 * named by the beginning of its id, by a tag, or by the branch whose head it is; no name: the head.
 */
export class Versions {
  readonly #parts: Parts

  /** @internal */
  constructor(parts: Parts) {
    this.#parts = parts
  }

  /** A version; `onFile` is told of all that is in it, in the order of paths. Throws UNKNOWN_VERSION, CONFLICT, UNREACHABLE. */
  show(
    name: string,
    { version, timeout = TIMEOUT }: { version?: string } & Reading,
    onFile: (file: FileInfo) => Promise<void>
  ): Task<VersionInfo> {
    return this.#read(name, timeout, version, async (parcel, known, work) => {
      for await (const { entry } of parcel.files.side(known, work).contents) {
        const { type, mode } = entry
        const mtime = Number(entry.mtime / 1_000_000n)
        const size = entry.type === 'file' ? entry.size : 0
        await onFile({ path: printable(entry.path), fileType: type, size, mode, mtime })
      }
      return this.#describe(parcel, known)
    })
  }

  /** `onChange` is told of what version `to` (default: the head) changed since `from`. Throws as `show`. */
  diff(
    name: string,
    { from, to, timeout = TIMEOUT }: { from: string; to?: string } & Reading,
    onChange: (change: Change) => Promise<void>
  ): Task<{ from: VersionInfo; to: VersionInfo }> {
    return this.#read(name, timeout, to, async (parcel, after, work) => {
      const before = parcel.history.resolve(from)
      const release = await parcel.space.hold(before)
      try {
        await parcel.availability.watch(before, { timeout }, work, async (each) => {
          const sides = [parcel.files.side(before, each), parcel.files.side(after, each)] as const
          for await (const change of differences(...sides)) await onChange(change)
        })
      } finally {
        release()
      }
      return {
        from: await this.#describe(parcel, before),
        to: await this.#describe(parcel, after)
      }
    })
  }

  /**
   * Writes a version, or what is at or below some of its paths, into a folder that is empty or not
   * there. Throws as `show`; CONFLICT for another folder, USAGE for one in the home.
   */
  restore(
    name: string,
    {
      version,
      to,
      paths = [],
      timeout = TIMEOUT
    }: { version?: string; to: string; paths?: readonly string[] } & Reading
  ): Task<{ version: VersionInfo; path: string; files: number }> {
    return this.#read(name, timeout, version, async (parcel, known, work) => {
      const path = await this.requireFree(resolve(to))
      const mayWrite = async (): Promise<void> => void (await this.requireFree(path))
      const files = await parcel.files.restore(known, path, { paths, beforeSwap: mayWrite }, work)
      return { version: await this.#describe(parcel, known), path, files }
    })
  }

  /** Versions with names, and their names. */
  tags(name: string): { tag: string; version: string }[] {
    return this.#parts.parcels
      .named(name)
      .history.tags.list()
      .map((each) => ({ tag: each.name, version: each.version.toString('hex') }))
  }

  /** Gives a version (default: the head) a name, on every host. Throws NAME_TAKEN unless `force`, FORBIDDEN. */
  async tag(
    name: string,
    tag: string,
    { version, force = false }: { version?: string; force?: boolean } = {}
  ): Promise<VersionInfo> {
    requireLabel(tag)
    const parcel = this.#parts.parcels.named(name)
    const { history } = parcel
    const known = this.chosen(parcel, version)
    const isOthers = history.tags.get(tag)?.equals(known.id) === false
    if (isOthers && !force) {
      throw new ParcelError('NAME_TAKEN', `another version is called "${tag}": --force renames it`)
    }
    if (history.branches().has(tag)) {
      throw new ParcelError('NAME_TAKEN', `there is a branch "${tag}"`)
    }
    await parcel.author.tag(tag, known.id)
    return this.#describe(parcel, known)
  }

  /** Takes a name away. Throws UNKNOWN_VERSION, FORBIDDEN. */
  async untag(name: string, tag: string): Promise<void> {
    const parcel = this.#parts.parcels.named(name)
    if (parcel.history.tags.get(tag) === null) {
      throw new ParcelError('UNKNOWN_VERSION', `no version is called "${tag}"`)
    }
    await parcel.author.tag(tag, null)
  }

  /** Gives a parcel another name on this host. Throws NAME_TAKEN. */
  rename(name: string, to: string): Promise<void> {
    return this.#parts.alone(null, async () => {
      const parcel = this.#parts.parcels.named(name)
      requireName(to)
      if (to !== name) this.#parts.parcels.requireFree(to)
      await parcel.rename(to)
    })
  }

  /**
   * Makes a new version that has the contents of an earlier one; nothing is lost. Throws CONFLICT
   * while there are several heads that it could continue.
   */
  rollback(
    name: string,
    version: string,
    { message = '' }: { message?: string } = {}
  ): Promise<VersionInfo> {
    return this.#alone(name, async (parcel) => {
      const known = parcel.history.resolve(version)
      const head = this.chosen(parcel, undefined)
      const back = message === '' ? `as ${known.id.toString('hex', 0, 6)}` : message
      requireMessage(back)
      const how = { parents: [head.id], branch: branchName(head.version), message: back }
      return first(await parcel.author.takeOver([{ known, ...how }]))
    })
  }

  /**
   * Settles a conflict for one of its heads, on every host: a new version has its contents and
   * continues all heads of its branch; or those of all branches, where none is in conflict. Throws
   * USAGE for what is no head, and when there is only one.
   */
  take(name: string, version: string): Promise<VersionInfo> {
    return this.#alone(name, async (parcel) => {
      const { history } = parcel
      requireSeveral(parcel)
      const known = history.resolve(version)
      if (!history.isHead(known.id)) {
        throw new ParcelError(
          'USAGE',
          `${short(known)} is no head, others have continued it: 'hyperparcel rollback' goes back to it`
        )
      }
      const branch = branchName(known.version)
      const own = history.branches().get(branch) ?? []
      const heads = own.length > 1 ? own : history.isInConflict ? [known] : history.heads()
      if (heads.length === 1) {
        throw new ParcelError('USAGE', `${short(known)} is the only head of its branch`)
      }
      const how = { branch: own.length > 1 ? branch : '', message: 'settled' }
      return first(
        await parcel.author.takeOver([{ known, parents: parents(known, heads), ...how }])
      )
    })
  }

  /**
   * Settles conflicts by keeping every head that is in one, on every host: each becomes the head of
   * a branch of its own, called after the host that made it, or as `names` has it, in the order of
   * the heads. Throws USAGE when there is no conflict, NAME_TAKEN.
   */
  async keepAll(name: string, names: readonly string[] = []): Promise<VersionInfo[]> {
    const { parcels, alone } = this.#parts
    const parcel = parcels.named(name)
    return alone(parcel, async () => {
      if (parcel.newerFormat !== null) throw parcel.newerFormat
      requireSeveral(parcel)
      const { history } = parcel
      const branches = history.branches()
      const heads = [...branches.values()].filter((all) => all.length > 1).flat()
      if (heads.length === 0) {
        throw new ParcelError('USAGE', `"${name}" has branches, and none is in conflict`)
      }
      if (names.length > 0 && names.length !== heads.length) {
        throw new ParcelError('USAGE', `${heads.length} names are needed: ${list(heads)}`)
      }
      const taken = new Set([...branches.keys(), ...history.tags.list().map((tag) => tag.name)])
      const chosen = names.length > 0 ? [...names] : this.#namesFor(parcel, heads, taken)
      for (const [i, branch] of chosen.entries()) {
        requireLabel(branch)
        if (!taken.has(branch) && chosen.indexOf(branch) === i) continue
        throw new ParcelError('NAME_TAKEN', `there is a branch or a tag "${branch}" already`)
      }
      const made = await parcel.author.takeOver(
        heads.map((known, i) => {
          return { known, parents: [known.id], branch: chosen[i] ?? '', message: 'kept' }
        })
      )
      return Promise.all(made.map((known) => this.#describe(parcel, known)))
    })
  }

  /**
   * Throws away what this host has not suspended: the folder becomes again what its version was,
   * and a machine stands as it did then. Throws RUNNING, CONFLICT when there is no version or something
   * in the folder that none could store.
   */
  discard(name: string, { timeout = TIMEOUT }: Reading = {}): Task<VersionInfo> {
    return this.#task(name, async (parcel, work) => {
      const machine = new ParcelMachine(this.#parts.home, parcel)
      await machine.requireStopped()
      const { path } = parcel.folder
      const base = parcel.folder.baseVersion()
      if (path === null || base === null) {
        throw new ParcelError(
          'CONFLICT',
          `"${name}" has no version here to go back to: 'hyperparcel suspend' makes one`
        )
      }
      const driver = driverNamed(parcel.driver)
      const isState = (file: string): boolean => isStateOf(driver, file)
      await parcel.files.requireAllStored(base, path, { isState })
      const served = await ParcelMachine.asServed(parcel, path, base.id)
      if (served === null) await parcel.availability.fetch(base, { timeout }, work)
      await parcel.availability.watch(base, { timeout }, work, (each) =>
        parcel.files.checkOut(
          base,
          path,
          { served, beforeSwap: () => machine.requireStopped() },
          each
        )
      )
      return this.#describe(parcel, base)
    })
  }

  /** Throws away what was written through `mount` and `nbd`. Throws RUNNING while it is open, NOT_RUNNING when there is nothing. */
  discardMounted(name: string): Promise<void> {
    const { home, parcels, alone } = this.#parts
    const parcel = parcels.named(name)
    return alone(parcel, async () => {
      const overlays = homeOverlays(home, parcel)
      if ((await readMarker(overlays)) === null || !(await hasOverlays(overlays))) {
        throw new ParcelError('NOT_RUNNING', `nothing was written to "${name}" through a mount`)
      }
      const lock = await lockFolder(overlays)
      try {
        await rm(overlays, { recursive: true, force: true })
      } finally {
        await lock.close()
      }
    })
  }

  /** Sets how many other hosts are to have a version before this one can be without. Throws USAGE. */
  async setCopies(name: string, count: number): Promise<void> {
    if (!Number.isInteger(count) || count < 0 || count > MAX_COPIES) {
      throw new ParcelError('USAGE', `a number of hosts, at most ${MAX_COPIES}`)
    }
    await this.#parts.parcels.named(name).settings.setCopies(count)
  }

  /** The user has seen that this host went on in new logs. */
  async forgetRollbacks(): Promise<void> {
    for (const parcel of this.#parts.parcels.all) {
      if (parcel.rollbacks.length > 0) await parcel.forgetRollbacks()
    }
  }

  /**
   * Waits until so many other hosts as the parcel's `copies` have signed that they hold a version, or one
   * that is named; `onChange` is told where it is, now and whenever that changes. Throws TOO_FEW_COPIES
   * after `timeout` ms, saying who could help; USAGE for a host that is no member.
   */
  safe(
    name: string,
    { version, on = null, timeout = TIMEOUT }: { version: string; on?: string | null } & Reading,
    onChange: (version: VersionInfo) => Promise<void>
  ): Task<VersionInfo> {
    return new Task(async (work) => {
      const { parcels } = this.#parts
      const parcel = parcels.named(name)
      const wanted = on === null ? null : memberNamed(namesOfMembers(parcel), on)
      const known = parcel.history.resolve(version)
      if (wanted !== null) {
        await this.#parts.nextSite.send(parcel, known, wanted).catch((error: unknown) => {
          work.note(`not woken: ${ParcelError.from(error).message}`)
        })
      }
      const self = this.#parts.home.identity.publicKey.toString('hex')
      const others = (): string[] =>
        [...parcel.availability.holders(known)].filter((host) => host !== self)
      const limit = AbortSignal.timeout(timeout)
      const wake = new EventEmitter()
      const stop = parcel.onChange(() => wake.emit('change'))
      try {
        for (let said = ''; ;) {
          if (parcels.withId(parcel.id) !== parcel) {
            throw new ParcelError('UNKNOWN_PARCEL', `"${parcel.name}" was removed here`)
          }
          const changed = once(wake, 'change', { signal: AbortSignal.any([work.signal, limit]) })
          changed.catch(() => {})
          const holders = others()
          const text = holders.toSorted().join(' ')
          if (text !== said || said === '') await onChange(await this.#describe(parcel, known))
          said = text
          const isSafe =
            wanted === null ? holders.length >= parcel.settings.copies : holders.includes(wanted)
          if (isSafe) return await this.#describe(parcel, known)
          await changed.catch(() => {})
          work.signal.throwIfAborted()
          if (!limit.aborted) continue
          if (wanted === null) throw this.#tooFew(parcel, others())
          throw new ParcelError(
            'TOO_FEW_COPIES',
            `${parcel.hostName(wanted)} does not have all of it yet: bring it online`
          )
        }
      } finally {
        stop()
      }
    })
  }

  #tooFew(parcel: Parcel, holders: readonly string[]): ParcelError {
    const could = [...parcel.peers.trusted()].filter((host) => !holders.includes(host))
    const names = could.map((host) => parcel.hostName(host)).join(' or ')
    const help = names === '' ? 'let another host in or make a vault' : `bring ${names} online`
    return new ParcelError(
      'TOO_FEW_COPIES',
      `${holders.length} of ${parcel.settings.copies} other hosts have it: ${help}`
    )
  }

  /** The real path of a folder that is empty or not there. Throws USAGE, CONFLICT for another, or somebody's. */
  async requireFree(wanted: string): Promise<string> {
    const { home, parcels } = this.#parts
    const path = await realDestination(wanted)
    if (overlaps(home.dir, path)) {
      throw new ParcelError('USAGE', `cannot write into the home folder ${home.dir}`)
    }
    for (const each of parcels.all) {
      if (each.folder.path === null) continue
      if (!overlaps(await realDestination(each.folder.path), path)) continue
      throw new ParcelError('CONFLICT', `${path} belongs to the parcel "${each.name}"`)
    }
    if ((await namesIn(path)).length > 0) {
      throw new ParcelError('CONFLICT', `${path} is not empty: choose another folder`)
    }
    return path
  }

  #namesFor(parcel: Parcel, heads: readonly Known[], taken: ReadonlySet<string>): string[] {
    const { home } = this.#parts
    const names: string[] = []
    for (const { version } of heads) {
      const isOurs = version.author.equals(home.identity.publicKey)
      const host = isOurs ? home.name : parcel.hostName(version.author.toString('hex'))
      const plain = host.replaceAll(/[^\p{L}\p{N}._-]/gu, '-').replace(/^[._-]+/, '')
      const base = Array.from(plain).slice(0, 20).join('')
      const stem = isLabel(base) ? base : `${base}-branch`.replace(/^-/, '')
      let name = stem
      for (let n = 2; taken.has(name) || names.includes(name); n++) name = `${stem}-${n}`
      names.push(name)
    }
    return names
  }

  /**
   * The version that a name stands for, of those that are known here. Throws UNKNOWN_VERSION, CONFLICT.
   * @internal
   */
  chosen(parcel: Parcel, version: string | undefined): Known {
    if (version !== undefined) return parcel.history.resolve(version)
    return requireHead(parcel)
  }

  #describe(parcel: Parcel, known: Known): Promise<VersionInfo> {
    return describeVersion(parcel, known, this.#parts.home)
  }

  async #alone(name: string, work: (parcel: Parcel) => Promise<Known>): Promise<VersionInfo> {
    const parcel = this.#parts.parcels.named(name)
    return this.#parts.alone(parcel, async () => {
      // To go on from what is known here would fork the history without a word.
      if (parcel.newerFormat !== null) throw parcel.newerFormat
      return this.#describe(parcel, await work(parcel))
    })
  }

  #task<T>(name: string, run: (parcel: Parcel, work: Work) => Promise<T>): Task<T> {
    return new Task((work) => {
      const parcel = this.#parts.parcels.named(name)
      return this.#parts.alone(parcel, () => run(parcel, work))
    })
  }

  /** Reads a version, other verbs meanwhile; what of it is not here is fetched. */
  #read<T>(
    name: string,
    timeout: number,
    version: string | undefined,
    run: (parcel: Parcel, known: Known, work: Work) => Promise<T>
  ): Task<T> {
    return new Task(async (work) => {
      const parcel = this.#parts.parcels.named(name)
      const known = await chooseVersion(parcel, version, timeout, work)
      const release = await parcel.space.hold(known)
      try {
        return await parcel.availability.watch(known, { timeout }, work, (each) =>
          run(parcel, known, each)
        )
      } finally {
        release()
      }
    })
  }
}

function first(made: readonly Known[]): Known {
  const [known] = made
  if (known === undefined) throw new Error('no version was made')
  return known
}

function requireSeveral({ name, history }: Parcel): void {
  if (history.heads().length > 1) return
  throw new ParcelError('USAGE', `"${name}" has one head: there is nothing to settle`)
}

function requireMessage(message: string): void {
  if (Buffer.byteLength(message) <= MAX_TEXT) return
  throw new ParcelError('USAGE', `a message has at most ${MAX_TEXT} bytes`)
}

/** The one that is taken first, and no more than a version can have: the others can be settled after. */
function parents(known: Known, heads: readonly Known[]): Buffer[] {
  const others = heads.filter((head) => head !== known)
  return [known, ...others].slice(0, MAX_PARENTS).map(({ id }) => id)
}

function short({ id }: Known): string {
  return id.toString('hex', 0, 6)
}

function list(heads: readonly Known[]): string {
  return heads.map(short).join(', ')
}
