import { ParcelError } from '../../errors.js'
import { encodeMetaRecord } from '../../format/meta-record.js'
import { encodeVersion } from '../../format/version.js'
import type { Faults, Supply } from './faults.js'
import type { Known } from '../history.js'
import type { LogSet } from '../logs/log-set.js'

/** A version that is lent to images: its records, and its items one by one. */
export interface VersionItems {
  /** The version's record, its places and what it wants first, as base64. */
  records: { version: string; places: string; trace: string | null }
  /** `core` by its number in the places. Throws INTEGRITY, INTERRUPTED. */
  supply(
    wish: { core: number; block: number; ordinal: number; id: Buffer | null },
    signal: AbortSignal
  ): Promise<Supply>
  release(): void
}

/** Throws UNREACHABLE when the version's places are not here. */
export function versionItems(
  { id, version }: Known,
  set: LogSet,
  faults: Faults,
  { prefetch, release }: { prefetch: boolean; release: () => void }
): VersionItems {
  // As they are now: a later record of places numbers its cores anew.
  const places = set.history.places(id)
  const trace = set.history.trace(id)
  let isReleased = false
  return {
    records: {
      version: encodeVersion(version).toString('base64'),
      places: encodeMetaRecord({ type: 'places', places }).toString('base64'),
      trace: trace && encodeMetaRecord({ type: 'trace', trace }).toString('base64')
    },
    async supply({ core, ...wish }, signal) {
      const key = places.cores[core]
      if (key === undefined) {
        throw new ParcelError('INTEGRITY', `a place names core ${core}, which its table lacks`)
      }
      return faults.supply({ core: key, ...wish, isBlind: prefetch && trace === null }, signal)
    },
    release() {
      if (!isReleased) release()
      isReleased = true
    }
  }
}
