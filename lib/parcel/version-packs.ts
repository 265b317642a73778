import { ParcelError } from '../errors.js'
import { CoreTable } from '../log/core-table.js'
import { PackReader } from '../log/pack-reader.js'
import { contents } from '../image/contents.js'
import type { Known } from './history.js'
import type { LogSet } from './log-set.js'

/** The contents of a version that is here, for comparing a folder with it. */
export function contentsOf({ id, version }: Known, set: LogSet): ReturnType<typeof contents> {
  const places = set.history.places(id)
  return contents(packsOf(new CoreTable(places.cores), set), version, places)
}

/** Items out of the logs that are here, by the numbers of a core table. */
export function packsOf(cores: CoreTable, set: LogSet): PackReader {
  return new PackReader(cores, async (key) => {
    const log = set.get(key)
    if (log !== null) return log
    throw new ParcelError('UNREACHABLE', 'a log that this version needs is not known here yet')
  })
}
