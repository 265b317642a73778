import { lstat } from 'node:fs/promises'
import { contents } from '../../image/contents.js'
import { CoreTable } from '../../log/core-table.js'
import type { Work } from '../../progress.js'
import { requireAllStored, requireNoChanges } from '../commit/changes.js'
import type { Author } from '../commit/author.js'
import { provenBase } from '../commit/base-files.js'
import { MappedWrites } from '../commit/mapped-writes.js'
import { realDestination } from '../../paths.js'
import { FileStamps } from '../commit/file-stamps.js'
import type { ParcelContext } from '../context.js'
import type { Side } from '../diff.js'
import type { Known } from '../history.js'
import type { LogSet } from '../logs/log-set.js'
import type { Loss } from '../space/lost.js'
import { contentsOf, packsOf } from '../version-packs.js'
import type { WorkingFolder } from '../working-folder.js'
import { checkOut, type CheckOutOptions } from './check-out.js'
import type { Before } from './old-files.js'
import { restoreFiles, type RestoreOptions } from './restore.js'
import { salvage } from './salvage.js'

interface VersionFilesParts {
  parcel: Buffer
  context: ParcelContext
  set: LogSet
  folder: WorkingFolder
  author: Author
  /** How the parcel is called here. */
  name: () => string
  /** Whether this host has written all that is in a version. */
  isOurs: (known: Known) => boolean
  /** One thing at a time changes the folder. */
  exclusive: <T>(work: () => Promise<T>) => Promise<T>
}

/** What is in versions: written out, read, or compared with a folder. */
export class VersionFiles {
  readonly #parts: VersionFilesParts

  constructor(parts: VersionFilesParts) {
    this.#parts = parts
  }

  /**
   * Writes a version into `dir`, all or what is not served, which then is the folder that continues it. `beforeSwap` may
   * still refuse, when everything is written but for the last rename, and `afterSwap` for what was there before.
   */
  checkOut(
    known: Known,
    dir: string,
    {
      served,
      beforeSwap,
      afterSwap = async () => {}
    }: Pick<CheckOutOptions, 'served' | 'beforeSwap'> & {
      afterSwap?: (previous: string) => Promise<void>
    },
    work: Work
  ): Promise<void> {
    const { set, context, folder, author, isOurs, exclusive } = this.#parts
    const version = known.id.toString('hex')
    return exclusive(async () => {
      let isSwapped = false
      const before = await this.#before(dir)
      const stamps = await checkOut(known, dir, {
        set,
        pool: context.pool,
        index: isOurs(known) ? null : context.index,
        served,
        before,
        onRestamped: async () => {
          if (before !== null) await author.keepStamps(before.stamps, before.id)
        },
        beforeSwap: async () => {
          await beforeSwap()
          await folder.begin('checkout', version, dir)
        },
        afterSwap: async (previous) => {
          if (previous !== null) await afterSwap(previous)
          isSwapped = true
        },
        work
      }).catch(async (error: unknown) => {
        if (!isSwapped) await folder.cancel()
        throw error
      })
      await folder.settle(version, dir)
      await author.keepStamps(stamps, known.id)
    })
  }

  /** What is in a folder by the version that it continues; null: that is not known. */
  async #before(dir: string): Promise<Before | null> {
    const { set, context, folder } = this.#parts
    const known = folder.base === null ? null : set.history.get(folder.base)
    if (known === null || folder.path === null) return null
    const stats = await lstat(dir, { bigint: true }).catch(() => null)
    if (stats?.isDirectory() !== true || (await realDestination(folder.path)) !== dir) return null
    const base = await provenBase(known, set, context)
    if (base === null) return null
    const hasTraces = await new MappedWrites().leaveTraces({ absolute: dir, stats })
    return { ...base, id: known.id, hasTraces }
  }

  /** Writes a version, or some paths of it, into a new folder. As `restoreFiles`. */
  restore(known: Known, dir: string, how: RestoreOptions, work: Work): Promise<number> {
    const { set, context } = this.#parts
    return restoreFiles(known, dir, { ...how, set, pool: context.pool, work })
  }

  /** Writes all of a version that can be read into a new folder. As `salvage`. */
  salvage(
    known: Known,
    dir: string,
    onLoss: (loss: Omit<Loss, 'version'>) => Promise<void>,
    work: Work
  ): Promise<{ files: number; lost: number }> {
    return salvage(known, dir, { set: this.#parts.set, onLoss, work })
  }

  /** The contents of a version that is here, for comparing a folder with it. */
  contents(known: Known): ReturnType<typeof contentsOf> {
    return contentsOf(known, this.#parts.set)
  }

  /** A version to be compared with another: what of it is not here is waited for. Throws UNREACHABLE. */
  side({ id, version }: Known, { signal }: Work): Side {
    const { set } = this.#parts
    const places = set.history.places(id)
    const source = packsOf(new CoreTable(places.cores), set, signal)
    return { source, contents: contents(source, version, places) }
  }

  /**
   * Throws CONFLICT when the folder at `path` has what the version that this parcel's folder continues has
   * not; null: there is none.
   */
  async requireNoChanges(
    known: Known | null,
    path: string,
    how: Pick<Parameters<typeof requireNoChanges>[2], 'served' | 'isState' | 'signal'>
  ): Promise<void> {
    const { parcel, context, name } = this.#parts
    const { stateDir, identity, pool } = context
    const stamps =
      known === null
        ? new FileStamps()
        : await FileStamps.load(stateDir, identity.atRest, parcel, known.id)
    const contents = known === null ? null : this.contents(known)
    await requireNoChanges(path, contents, { ...how, name: name(), stamps, pool })
  }

  /** Throws CONFLICT when the folder at `path` has what no suspend could store, and a version has not. */
  requireAllStored(
    known: Known,
    path: string,
    how: { isState: (path: string) => boolean }
  ): Promise<void> {
    const { pool } = this.#parts.context
    return requireAllStored(path, this.contents(known), { ...how, pool })
  }
}
