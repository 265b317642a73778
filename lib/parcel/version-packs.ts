import { setTimeout } from 'node:timers/promises'
import { ParcelError } from '../errors.js'
import { CoreTable } from '../log/core-table.js'
import type { Log } from '../log/log.js'
import { PackReader } from '../log/pack-reader.js'
import { contents } from '../image/contents.js'
import type { Known } from './history.js'
import type { LogSet } from './logs/log-set.js'

const POLL = 50

/** The contents of a version that is here, for comparing a folder with it. */
export function contentsOf({ id, version }: Known, set: LogSet): ReturnType<typeof contents> {
  const places = set.history.places(id)
  return contents(packsOf(new CoreTable(places.cores), set), version, places)
}

/**
 * Items out of the logs, by the numbers of a core table: of what is here, or also of what comes
 * before `wait` aborts.
 */
export function packsOf(
  cores: CoreTable,
  set: LogSet,
  wait: AbortSignal | null = null
): PackReader {
  const openLog = async (key: Buffer): Promise<Log> => {
    const known = set.get(key)
    if (known !== null) return known
    set.missingLogs++
    try {
      while (wait?.aborted === false) {
        await setTimeout(POLL)
        const log = set.get(key)
        if (log !== null) return log
      }
    } finally {
      set.missingLogs--
    }
    throw new ParcelError('UNREACHABLE', 'a log that this version needs is not known here yet')
  }
  return new PackReader(cores, openLog, wait)
}
