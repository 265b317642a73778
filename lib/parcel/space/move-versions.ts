import { ParcelError } from '../../errors.js'
import { encodeMetaRecord } from '../../format/meta-record.js'
import type { Log } from '../../log/log.js'
import type { Work } from '../../progress.js'
import type { ParcelContext } from '../context.js'
import type { Known, Placement } from '../history.js'
import type { LogSet } from '../logs/log-set.js'
import { Move, type MovedVersion } from './move.js'
import type { OwnLogs } from '../logs/own-logs.js'

interface Parts {
  context: ParcelContext
  set: LogSet
  own: OwnLogs
  /** One thing at a time appends to this host's logs. */
  exclusive: <T>(work: () => Promise<T>) => Promise<T>
}

export interface MoveRequest {
  /** Versions that are to be whole without what they have in these logs. */
  wanted: () => readonly Known[]
  /** Logs, in hex, each from a block on. */
  from: ReadonlyMap<string, number>
  /** Logs of this host that hold things still, besides the new one. */
  stays: () => readonly Log[]
  /** Whether this host goes on in the new log although nothing had to be copied. */
  isAlways: boolean
  /** Throws RUNNING while somebody reads what would be moved. */
  requireUnread: () => void
  /** Called with the bytes of each item that was copied. */
  onMoved: (bytes: number) => void
  work: Work
}

/**
 * Copies what versions need out of logs into a new one of this host, says where it is now, and goes on in
 * that. Durable when it settles; killed in the middle, the next start ends it or takes it back.
 */
export async function moveVersions(
  { set, own, context, exclusive }: Parts,
  { wanted, from, stays, isAlways, requireUnread, onMoved, work }: MoveRequest
): Promise<void> {
  requireUnread()
  const to = await own.startMove()
  const move = new Move({ set, context, to, from, work, onMoved })
  const done = new Map<string, MovedVersion>()
  const isTouched = ({ heads }: Placement): boolean =>
    heads.some(({ key, length }) => length > (from.get(key.toString('hex')) ?? Infinity))
  const moveAll = async (): Promise<void> => {
    const left = wanted().filter(({ id }) => !done.has(id.toString('hex')))
    move.expect(left.flatMap(({ id }) => set.history.placement(id) ?? []))
    for (const known of left) {
      const placement = set.history.placement(known.id)
      if (placement === null || !isTouched(placement)) continue
      const name = known.id.toString('hex')
      try {
        done.set(name, await move.version(known, placement))
      } catch (error) {
        const { code, message } = ParcelError.from(error)
        if (code !== 'INTEGRITY' && code !== 'UNREACHABLE') throw error
        // Its logs stay, and with them what else is in them.
        set.problem('', `${name.slice(0, 12)} cannot be moved: ${message}`)
      }
    }
  }
  let isEnding = false
  const settle = async (): Promise<void> => {
    requireUnread()
    await own.requireSameLogs(to)
    await moveAll()
    if (done.size === 0 && !isAlways) {
      await own.abandonMove(to)
      return
    }
    const head = await to.head()
    const records = [...done.values()].flatMap(({ places, others, trace }) => [
      ...(trace === null ? [] : [encodeMetaRecord({ type: 'trace', trace })]),
      encodeMetaRecord({ type: 'moved', moved: { places, heads: [...others, head] } })
    ])
    isEnding = true
    await own.endMove(to, stays(), records)
    await set.refresh()
  }
  try {
    // Suspends go on meanwhile; what they made is copied when nobody else appends.
    await moveAll()
    await exclusive(settle)
  } catch (error) {
    // Once it may be said that this host goes on in it, the next start sees whether it is.
    if (!isEnding) await own.abandonMove(to).catch(() => {})
    throw error
  }
}
