import { ParcelError } from '../../errors.js'
import { encodeMetaRecord, type Places, type Trace } from '../../format/meta-record.js'
import { ContinuedElsewhere } from '../../log/log.js'
import { leftOutOf, versionExtensions, type CoreHead, type Version } from '../../format/version.js'
import type { Work } from '../../progress.js'
import type { ParcelContext } from '../context.js'
import type { Faults } from '../fetch/faults.js'
import type { FileStamps } from './file-stamps.js'
import { placesHash, signVersion, type Known } from '../history.js'
import type { LogSet } from '../logs/log-set.js'
import { imagesOf, openWriter, storeVersion, traceFor, type CommitRequest } from './new-version.js'
import type { OwnLogs } from '../logs/own-logs.js'
import { StoreAhead } from './store-ahead.js'
import type { Skipped } from './walk.js'
import type { WorkingFolder } from '../working-folder.js'

interface Parts {
  parcel: Buffer
  driver: () => string
  context: ParcelContext
  set: LogSet
  own: OwnLogs
  folder: WorkingFolder
  faults: Faults
  /** Throws REVOKED, FORBIDDEN when this host must not make versions. */
  requireWriter: () => void
  /** Throws LEASE_HELD when another host has the lease. */
  requireLease: () => void
  /** The lease under which versions are made now; 0: without one. */
  leaseEpoch: () => number
  /** One thing at a time appends to this host's logs or changes its folder. */
  exclusive: <T>(work: () => Promise<T>) => Promise<T>
  /** Called when a version was made. */
  onMade: (known: Known) => Promise<void>
}

/** What a version that takes another one over is to be. */
export interface TakeOver {
  known: Known
  /** Versions that it continues. */
  parents: readonly Buffer[]
  /** '' for the branch without a name. */
  branch: string
  message: string
}

/** A version whose records are to be written. */
interface Made {
  signed: ReturnType<typeof signVersion>
  places: Omit<Places, 'version'>
  /** The states of logs that hold all of it. */
  heads: readonly CoreHead[]
  trace: Omit<Trace, 'version'> | null
}

/** Bytes that nothing which is stored ahead takes from the disk: the machine writes there, too. */
const RESERVE = 1_073_741_824

/** What was done for a version before its commit. */
export interface Ahead {
  /** Bytes. */
  stored: number
  /** Blocks that had to come from other hosts. */
  fetched: number
}

/** Makes this host's versions and names them: of folders, of images, or of other versions. */
export class Author {
  readonly #parts: Parts

  constructor(parts: Parts) {
    this.#parts = parts
  }

  /**
   * Stores a folder as a new version that continues the folder's `base`; or, without a folder, images
   * that continue theirs. When it settles the version is durable; when it fails there is none.
   */
  async commit(
    request: CommitRequest,
    work: Work
  ): Promise<{ version: Known; skipped: Skipped[]; fetched: number }> {
    return this.#inNewLogs(() => this.#commit(request, work))
  }

  /** Does it again where others have shown meanwhile that they have more of this host's logs. */
  async #inNewLogs<T>(work: () => Promise<T>): Promise<T> {
    const { own, exclusive } = this.#parts
    for (;;) {
      try {
        return await exclusive(work)
      } catch (error) {
        const { logs } = own.require()
        if (!(error instanceof ContinuedElsewhere)) throw error
        await exclusive(async () => {})
        if (own.require().logs.some((log) => logs.includes(log))) throw error
      }
    }
  }

  /**
   * Stores what a machine has changed while it runs on, so that the commit which follows has little left.
   * `rest` is awaited now and then with how long it has worked, ms: others may append meanwhile. Ends early
   * when the disk would have little room left.
   */
  async storeAhead(
    request: CommitRequest,
    { rest, work }: { rest: (worked: number) => Promise<void>; work: Work }
  ): Promise<Ahead> {
    const { parcel, context, set, own, faults, requireWriter, exclusive } = this.#parts
    const { path, roles } = request
    const { signal } = work
    let stored = 0
    const open = () => {
      const { data } = own.require()
      const base = this.#baseOf(request)
      return { data, ...openWriter(request, { base, set, data, parcel, context }) }
    }
    const images = imagesOf(request, open().imagesPlacement, { set, faults, work })
    const base = this.#baseOf(request)
    const since = (base === null ? null : set.history.get(base))?.version.created ?? 0
    const ahead = new StoreAhead({ path, roles, since, images, pool: context.pool, signal })
    try {
      for (let isMore = true; isMore;) {
        const began = performance.now()
        const hasRoom = await context.store.requireRoom(RESERVE).then(
          () => true,
          () => false
        )
        if (!hasRoom) break
        isMore = await exclusive(async () => {
          requireWriter()
          const { data, writer } = open()
          const from = data.length
          try {
            return await ahead.go(writer)
          } catch (error) {
            await this.#abandon(ParcelError.from(error), from, writer.end())
            throw error
          } finally {
            stored += writer.stored
          }
        })
        if (isMore) await rest(performance.now() - began)
      }
    } finally {
      await ahead.close()
    }
    return { stored, fetched: images?.anywhere.fetched ?? 0 }
  }

  /** Says what a resume of a version will want first, where its commit did not wait for that. */
  addTrace(known: Known, request: CommitRequest, work: Work): Promise<void> {
    const { context, set, own, faults, exclusive } = this.#parts
    return exclusive(async () => {
      const placement = set.history.placement(known.id)
      const images = imagesOf(request, placement, { set, faults, work })
      if (placement === null || images === null) return
      const { places } = placement
      const { data, meta } = own.require()
      const { version } = known
      const trace = await traceFor({ version, places, images, data, set, request })
      if (trace === null) return
      const record = { type: 'trace' as const, trace: { ...trace, version: known.id } }
      await meta.append([[encodeMetaRecord(record)]])
      await context.store.flush()
      await own.saveMarks()
      await set.refresh()
    })
  }

  /** The version that one of this will continue. */
  #baseOf({ path, images }: CommitRequest): Buffer | null {
    return path === null ? (images?.version ?? null) : this.#parts.folder.base
  }

  async #commit(
    request: CommitRequest,
    work: Work
  ): Promise<{ version: Known; skipped: Skipped[]; fetched: number }> {
    const { parcel, context, set, own, folder, faults, requireWriter, onMade } = this.#parts
    const { path } = request
    requireWriter()
    const { version, places, skipped, stamps, trace, fetched } = await storeVersion(request, {
      parcel,
      driver: this.#parts.driver(),
      base: this.#baseOf(request),
      set,
      data: own.require().data,
      context,
      faults,
      leaseEpoch: this.#parts.leaseEpoch(),
      onFailure: (error, from, ended) => this.#abandon(error, from, ended),
      work
    })
    const signed = signVersion(context.identity, version)
    const id = signed.id.toString('hex')
    // The record is the commit point. Should we die right after it, the next start finds it by this.
    if (path !== null) await folder.begin('commit', id, path)
    await this.#append([{ signed, places, heads: version.cores, trace }])
    if (path !== null) {
      await folder.settle(id, path)
      // All of it was written here, or taken over from what was proved true; not so what is in images.
      if (request.images === undefined) {
        stamps.places = placesHash({ ...places, version: signed.id })
      }
      await this.keepStamps(stamps, signed.id)
    } else {
      await own.saveMarks()
    }
    const known = await this.#readBack(signed)
    await onMade(known)
    return { version: known, skipped, fetched }
  }

  /**
   * Makes versions that have the contents of others, all or none; nothing but the others' records need
   * be here. Throws UNREACHABLE when they are not.
   */
  takeOver(wanted: readonly TakeOver[]): Promise<Known[]> {
    const { context, set, own, requireWriter, onMade } = this.#parts
    return this.#inNewLogs(async () => {
      requireWriter()
      this.#parts.requireLease()
      const { history } = set
      const made = wanted.map(({ known, parents, branch, message }) => {
        const version: Version = {
          ...known.version,
          author: context.identity.publicKey,
          cores: [...history.coresOf(known.id)],
          parents: [...parents],
          created: context.clock(),
          totals: { ...known.version.totals, stored: 0 },
          message,
          leaseEpoch: this.#parts.leaseEpoch(),
          extensions: versionExtensions(branch, leftOutOf(known.version))
        }
        return {
          signed: signVersion(context.identity, version),
          places: history.places(known.id),
          heads: version.cores,
          trace: history.trace(known.id)
        }
      })
      await this.#append(made)
      await own.saveMarks()
      const versions: Known[] = []
      for (const { signed } of made) {
        const known = await this.#readBack(signed)
        versions.push(known)
        await onMade(known)
      }
      return versions
    })
  }

  /**
   * Writes the records of this host's versions, and the names of versions, once more: into new logs,
   * when they are lost in those of before. The caller lets nothing else append meanwhile.
   */
  async repeat(): Promise<void> {
    const { context, set, own } = this.#parts
    const { history } = set
    const self = context.identity.publicKey
    const made = history.list().flatMap(({ id, version }) => {
      if (!version.author.equals(self) || !history.isPlaced(id)) return []
      const signed = signVersion(context.identity, version)
      const heads = history.coresOf(id)
      return [{ signed, places: history.places(id), heads, trace: history.trace(id) }]
    })
    // Parents before children.
    await this.#append(made.toReversed())
    // Where what others made is here, of which the logs that they name may be gone.
    const moved = history.list().flatMap(({ id, version }) => {
      const [own] = history.placements(id)
      if (version.author.equals(self) || own?.host !== self.toString('hex')) return []
      return [[encodeMetaRecord({ type: 'moved', moved: { ...own, heads: [...own.heads] } })]]
    })
    if (moved.length > 0) await own.require().meta.append(moved)
    const tags = history.tags
      .list()
      .map(({ name, version }) =>
        encodeMetaRecord({ type: 'tag', tag: history.tags.next(name, version) })
      )
    if (tags.length > 0) await own.require().meta.append(tags.map((bytes) => [bytes]))
    await context.store.flush()
    await own.saveMarks()
    await set.refresh()
  }

  /** Gives a name to a version, or takes it away, on every host. */
  tag(name: string, version: Buffer | null): Promise<void> {
    const { context, set, own, requireWriter } = this.#parts
    return this.#inNewLogs(async () => {
      requireWriter()
      const tag = set.history.tags.next(name, version)
      await own.require().meta.append([[encodeMetaRecord({ type: 'tag', tag })]])
      await context.store.flush()
      await own.saveMarks()
      await set.refresh()
      const now = set.history.tags.get(name)
      if (now === null ? version === null : version?.equals(now) === true) return
      throw new ParcelError('NAME_TAKEN', `another host holds on to the name "${name}"`)
    })
  }

  /** Without them the next commit reads everything, and is as good. */
  async keepStamps(stamps: FileStamps, version: Buffer): Promise<void> {
    const { parcel, context } = this.#parts
    const { stateDir, identity } = context
    await stamps.save(stateDir, identity.atRest, parcel, version).catch(() => {})
  }

  /** Writes the records of versions, all or none; when it settles they are durable. */
  async #append(made: readonly Made[]): Promise<void> {
    const { context, own } = this.#parts
    const records = made.flatMap(({ signed, places, heads, trace }) => {
      const version = signed.id
      const first =
        trace === null ? [] : [encodeMetaRecord({ type: 'trace', trace: { ...trace, version } })]
      return [
        ...first,
        placesRecord({ ...places, version }, heads),
        encodeMetaRecord({ type: 'version', ...signed })
      ]
    })
    await own.require().meta.append(records.map((bytes) => [bytes]))
    await context.store.flush()
  }

  async #readBack({ id }: Made['signed']): Promise<Known> {
    const { set } = this.#parts
    await set.refresh()
    const known = set.history.get(id)
    if (known === null) throw new ParcelError('FAILED', 'the new version cannot be read back')
    return known
  }

  /** What becomes of the packs of a commit that failed. */
  async #abandon(failure: ParcelError, from: number, ended: Promise<void>): Promise<void> {
    const { context, own } = this.#parts
    const [{ status }] = await Promise.allSettled([ended])
    if (failure.code === 'DISK_FULL' && !context.store.isBroken) await own.giveBack(from)
    // They are durable and will be found by the next try.
    else if (status === 'fulfilled') await own.saveMarks()
  }
}

/** Numbers of cores stay what they were in earlier versions, also of those that nothing is read from now. */
function placesRecord(places: Places, heads: readonly CoreHead[]): Buffer {
  const isRead = (key: Buffer): boolean => heads.some((head) => head.key.equals(key))
  if (places.cores.every(isRead)) return encodeMetaRecord({ type: 'places', places })
  return encodeMetaRecord({ type: 'moved', moved: { places, heads: [...heads] } })
}
