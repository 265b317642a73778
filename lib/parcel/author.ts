import { ParcelError } from '../errors.js'
import { encodeMetaRecord, type Places, type Trace } from '../format/meta-record.js'
import { onBranch, type Version } from '../format/version.js'
import type { Work } from '../progress.js'
import type { ParcelContext } from './context.js'
import type { Faults } from './faults.js'
import type { FileStamps } from './file-stamps.js'
import { signVersion, type Known } from './history.js'
import type { LogSet } from './log-set.js'
import { storeVersion, type CommitRequest } from './new-version.js'
import type { OwnLogs } from './own-logs.js'
import type { Skipped } from './walk.js'
import type { WorkingFolder } from './working-folder.js'

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
  /** One thing at a time appends to this host's logs or changes its folder. */
  exclusive: <T>(work: () => Promise<T>) => Promise<T>
  /** Called when a version was made. */
  onMade: (known: Known) => Promise<void>
}

/** What a version that takes another one over is to be. */
export interface TakeOver {
  /** Versions that it continues. */
  parents: readonly Buffer[]
  /** '' for the branch without a name. */
  branch: string
  message: string
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
  commit(
    request: CommitRequest,
    work: Work
  ): Promise<{ version: Known; skipped: Skipped[]; fetched: number }> {
    const { parcel, context, set, own, folder, faults, requireWriter, exclusive, onMade } =
      this.#parts
    const { path, images } = request
    return exclusive(async () => {
      requireWriter()
      const { version, places, skipped, stamps, trace, fetched } = await storeVersion(request, {
        parcel,
        driver: this.#parts.driver(),
        base: path === null ? (images?.version ?? null) : folder.base,
        set,
        data: own.require().data,
        context,
        faults,
        onFailure: (error, from, ended) => this.#abandon(error, from, ended),
        work
      })
      const known = await this.#publish(version, { places, trace }, async (id) => {
        // The record is the commit point. Should we die right after it, the next start finds it by this.
        if (path !== null) await folder.begin('commit', id.toString('hex'), path)
      })
      if (path !== null) {
        await folder.settle(known.id.toString('hex'), path)
        await this.keepStamps(stamps, known.id)
      } else {
        await own.saveMarks()
      }
      await onMade(known)
      return { version: known, skipped, fetched }
    })
  }

  /**
   * Makes a version that has the contents of another, of which nothing but its records need be here.
   * Throws UNREACHABLE when they are not.
   */
  takeOver(known: Known, { parents, branch, message }: TakeOver): Promise<Known> {
    const { context, set, own, requireWriter, exclusive, onMade } = this.#parts
    return exclusive(async () => {
      requireWriter()
      const { history } = set
      const version: Version = {
        ...known.version,
        author: context.identity.publicKey,
        parents: [...parents],
        created: context.clock(),
        totals: { ...known.version.totals, stored: 0 },
        message,
        leaseEpoch: 0,
        extensions: onBranch(branch)
      }
      const made = await this.#publish(version, {
        places: history.places(known.id),
        trace: history.trace(known.id)
      })
      await own.saveMarks()
      await onMade(made)
      return made
    })
  }

  /** Gives a name to a version, or takes it away, on every host. */
  tag(name: string, version: Buffer | null): Promise<void> {
    const { context, set, own, requireWriter, exclusive } = this.#parts
    return exclusive(async () => {
      requireWriter()
      const tag = set.history.tags.next(name, version)
      await own.require().meta.append([[encodeMetaRecord({ type: 'tag', tag })]])
      await context.store.flush()
      await own.saveMarks()
      await set.refresh()
    })
  }

  /** Without them the next commit reads everything, and is as good. */
  async keepStamps(stamps: FileStamps, version: Buffer): Promise<void> {
    const { parcel, context } = this.#parts
    const { stateDir, identity } = context
    await stamps.save(stateDir, identity.atRest, parcel, version).catch(() => {})
  }

  /** Writes a version's records; when it settles they are durable. */
  async #publish(
    version: Version,
    { places, trace }: { places: Omit<Places, 'version'>; trace: Omit<Trace, 'version'> | null },
    beforeRecord: (id: Buffer) => Promise<void> = async () => {}
  ): Promise<Known> {
    const { context, set, own } = this.#parts
    const signed = signVersion(context.identity, version)
    const { id } = signed
    await beforeRecord(id)
    const records = [
      ...(trace === null
        ? []
        : [encodeMetaRecord({ type: 'trace', trace: { ...trace, version: id } })]),
      encodeMetaRecord({ type: 'places', places: { ...places, version: id } }),
      encodeMetaRecord({ type: 'version', ...signed })
    ]
    await own.require().meta.append(records.map((bytes) => [bytes]))
    await context.store.flush()
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
