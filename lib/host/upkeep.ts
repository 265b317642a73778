import { resolve } from 'node:path'
import { ParcelError } from '../errors.js'
import type { LossInfo, VerifyResult } from '../info.js'
import type { Parcel } from '../parcel/parcel.js'
import type { ParcelList } from './parcel-list.js'
import { Task, type Work } from '../progress.js'
import type { Versions } from './versions.js'

const TIMEOUT = 60_000

interface Parts {
  parcels: ParcelList
  versions: Versions
}

type OnLoss = (loss: LossInfo) => Promise<void>

/** Finds what is damaged on this host's disk, has it sent again, and brings out what can be read. */
export class Upkeep {
  readonly #parts: Parts

  /** @internal */
  constructor(parts: Parts) {
    this.#parts = parts
  }

  /**
   * Compares blocks that are here with their logs' signatures, and their contents with their ids:
   * all of them, or a `sample` from 0 to 1 chosen by chance. What is damaged is fetched again; of what
   * nobody has sent in `timeout` ms `onLoss` is told what it touches. No name: all parcels; throws
   * INTEGRITY when one does not open.
   */
  verify(
    name: string | null,
    { sample = 1, timeout = TIMEOUT }: { sample?: number; timeout?: number },
    onLoss: OnLoss
  ): Task<VerifyResult> {
    const isChosen = (): boolean => sample >= 1 || Math.random() < sample
    return new Task(async (work) => {
      const checked = await this.#check(this.#parcels(name), { isChosen, timeout }, onLoss, work)
      const [problem] = name === null ? this.#parts.parcels.problems : []
      if (problem === undefined) return checked
      throw new ParcelError('INTEGRITY', problem)
    })
  }

  /**
   * Writes all of a version (default: the head) that can be read into a folder that is empty or not
   * there; what a file lacks is a hole in it, of which `onLoss` is told. Throws CONFLICT, USAGE,
   * UNREACHABLE when where the version is is not known.
   */
  salvage(
    name: string,
    { version, to }: { version?: string; to: string },
    onLoss: OnLoss
  ): Task<{ version: string; path: string; files: number; lost: number }> {
    return new Task(async (work) => {
      const { versions, parcels } = this.#parts
      const parcel = parcels.named(name)
      const known = versions.chosen(parcel, version)
      const id = known.id.toString('hex')
      const path = await versions.requireFree(resolve(to))
      const tell = (loss: Omit<LossInfo, 'parcel' | 'version'>): Promise<void> =>
        onLoss({ ...loss, parcel: name, version: id })
      const { files, lost } = await parcel.files.salvage(known, path, tell, work)
      return { version: id, path, files, lost }
    })
  }

  #parcels(name: string | null): readonly Parcel[] {
    return name === null ? this.#parts.parcels.all : [this.#parts.parcels.named(name)]
  }

  async #check(
    parcels: readonly Parcel[],
    how: { isChosen: () => boolean; timeout: number },
    onLoss: OnLoss,
    work: Work
  ): Promise<VerifyResult> {
    const result = { blocks: 0, bytes: 0, repaired: 0, lost: 0, lostRecords: 0, unproved: 0 }
    for (const parcel of parcels) {
      const tell = (loss: Omit<LossInfo, 'parcel'>): Promise<void> =>
        onLoss({ ...loss, parcel: parcel.name })
      const { blocks, bytes, repaired, lost, unproved } = await parcel.checking.check(
        how,
        tell,
        work
      )
      result.blocks += blocks
      result.bytes += bytes
      result.repaired += repaired.length
      result.lost += lost.length
      result.unproved += unproved.length
      result.lostRecords += lost.filter(({ log }) => log.kind !== 'data').length
    }
    return result
  }
}
