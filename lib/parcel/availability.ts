import { setTimeout } from 'node:timers/promises'
import { ParcelError } from '../errors.js'
import type { HeldCore } from '../format/control-record.js'
import type { CoreHead } from '../format/version.js'
import type { Log } from '../log/log.js'
import type { Work } from '../progress.js'
import { stateName, type Known } from './history.js'
import type { Hoard } from './fetch/hoard.js'
import type { LogSet } from './logs/log-set.js'
import { isFor } from './members/covering.js'

const POLL = 25
/** After so long without a block somebody who waits is told for whom, ms. */
const LONG = 5_000

/** How much of a version is here, and who else has it: read from the logs, nothing kept. */
export class Availability {
  readonly #set: LogSet
  /** States of logs that were found to fit, and the logs as they were open then. */
  readonly #fitting = new Map<string, Log>()
  /** States that logs which are here do not have: they are of another past. */
  readonly #misfits = new Map<string, Log>()
  readonly #hoard: Hoard

  constructor(set: LogSet, hoard: Hoard) {
    this.#set = set
    this.#hoard = hoard
  }

  /** Whether all of a version is on this host. */
  async isHere(known: Known): Promise<boolean> {
    // Each time that one turns out to be of another past, the next best is looked at.
    for (const _ of this.#set.history.placements(known.id)) {
      const placement = this.#set.history.placement(known.id)
      if (placement === null || !this.hasBlocks(known)) return false
      if (await this.areFitting(placement.heads)) return true
    }
    return false
  }

  /** Whether all blocks that a version needs are here, of whatever past of its logs. */
  hasBlocks(known: Known): boolean {
    const placement = this.#set.history.placement(known.id)
    return placement !== null && (this.hasCores(placement.heads) || this.#hoard.isWhole(known))
  }

  /** Whether all blocks that a version needs of logs in these states are here. */
  hasBlocksIn(known: Known, heads: readonly CoreHead[]): boolean {
    return this.hasCores(heads) || this.#hoard.isWholeIn(known, heads)
  }

  /** Whether logs that are here have these states, as far as that can be told. */
  async areFitting(heads: readonly CoreHead[]): Promise<boolean> {
    const fits = await Promise.all(heads.map((head) => this.#fits(head)))
    return fits.every(Boolean)
  }

  /** Whether a log that is here is the one that somebody has signed for: it may have two pasts. */
  async #fits(head: CoreHead): Promise<boolean> {
    const log = this.#set.get(head.key)
    const name = stateName(head)
    if (log === null || this.#fitting.get(name) === log) return true
    // What cannot be told, on a damaged disk, `verify` will say.
    const here = await log.head(head.length).catch(() => null)
    if (here === null) return true
    const isFitting = here.treeHash.equals(head.treeHash)
    if (isFitting) this.#fitting.set(name, log)
    else this.#misfits.set(name, log)
    return isFitting
  }

  /** Whether all blocks of cores, up to these lengths, are on this host. */
  hasCores(cores: readonly CoreHead[]): boolean {
    const { strays } = this.#set.history
    const isDoubtful = strays.size > 0 || this.#misfits.size > 0
    return cores.every((head) => {
      const { key, length } = head
      const log = this.#set.get(key)
      if (isDoubtful && log !== null) {
        const name = stateName(head)
        if (strays.has(name) || this.#misfits.get(name) === log) return false
      }
      return log !== null && log.length >= length && log.has(log.contiguousLength, length)
    })
  }

  /** What a receipt says of a version that is here without all of its logs; null: it is not. */
  heldOf(known: Known): HeldCore[] | null {
    return this.#hoard.heldOf(known)
  }

  /** How good logs are to read from: 2, all is here; 1, hosts write all of them now; else 0. */
  standing(heads: readonly CoreHead[]): number {
    if (this.hasCores(heads)) return 2
    const isCurrent = ({ key }: CoreHead): boolean => {
      const writer = this.#set.writerOf(key)
      return writer !== null && this.#set.control.currentData(writer).has(key.toString('hex'))
    }
    return heads.every(isCurrent) ? 1 : 0
  }

  /** How many blocks of a version are here and how many there are. */
  blocksOf(known: Known): { here: number; total: number } {
    const count = this.#hoard.countOf(known)
    if (count !== null) return { here: count, total: count }
    let here = 0
    let total = 0
    for (const head of this.#set.history.coresOf(known.id)) {
      total += head.length
      here += this.#set.get(head.key)?.count(head.length) ?? 0
    }
    return { here, total }
  }

  /** How many blocks of each log are here, or dropped, by core in hex. */
  held(): Map<string, number> {
    return new Map(this.#set.logs().map((log) => [log.key.toString('hex'), log.count(log.length)]))
  }

  /** What is still to come of what is wanted here: blocks, and about how many bytes those are. */
  missing(): { blocks: number; bytes: number } {
    let [blocks, bytes] = [0, 0]
    if (!this.#hoard.isAll) {
      const data = this.#set.logs().filter(({ kind }) => kind === 'data')
      const stored = data.reduce((sum, { byteLength }) => sum + byteLength, 0)
      const all = data.reduce((sum, { length }) => sum + length, 0)
      const { left } = this.#hoard
      return { blocks: left, bytes: all === 0 ? 0 : Math.round((left * stored) / all) }
    }
    for (const log of this.#set.logs()) {
      const left = log.length - log.count(log.length)
      if (left === 0) continue
      blocks += left
      bytes += Math.round((log.byteLength * left) / log.length)
    }
    return { blocks, bytes }
  }

  /** How many blocks of all logs are here and how many there are: for a vault, which knows no versions. */
  kept(): { here: number; total: number } {
    const logs = this.#set.logs()
    return {
      here: logs.reduce((sum, log) => sum + log.count(log.length), 0),
      total: logs.reduce((sum, log) => sum + log.length, 0)
    }
  }

  /**
   * Hosts that hold all of a version, in hex: who signed a receipt, and its author if all of it is in
   * the logs that the author writes now. One who suspended what was only partly there has but its own part.
   */
  holders({ id, version }: Known): Set<string> {
    const holders = new Set<string>()
    const wholes = this.#set.history.placements(id).map(({ heads }) => heads)
    if (wholes.length === 0) wholes.push(version.cores)
    for (const { host, cores } of this.#set.control.receipts.of(id)) {
      if (wholes.some((heads) => isFor(cores, heads))) holders.add(host)
    }
    const author = version.author.toString('hex')
    // In the logs that it writes now: of earlier ones it may have lost something.
    const current = this.#set.control.currentData(author)
    const isCurrent = ({ key }: CoreHead): boolean => current.has(key.toString('hex'))
    const hasLetGo = this.#set.control.receipts.isLetGo(id, author)
    if (!hasLetGo && wholes.some((heads) => heads.every(isCurrent))) holders.add(author)
    return holders
  }

  /**
   * Waits until all of a version is here, and fails with UNREACHABLE when nothing of it has come
   * for `timeout` ms. What has come stays: the next try goes on from there.
   */
  async fetch(known: Known, { timeout }: { timeout: number }, work: Work): Promise<void> {
    const started = performance.now()
    if (await this.isHere(known)) return
    const release = this.#hoard.want(known)
    const sayWaiting = this.#waiting(known, work)
    try {
      while (!(await this.isHere(known))) {
        work.signal.throwIfAborted()
        const { here, total } = this.blocksOf(known)
        work.report({ step: 'fetching', done: here, total, unit: 'blocks' })
        const silent = performance.now() - Math.max(started, this.#set.lastDownload)
        if (silent > LONG) sayWaiting()
        if (silent > timeout) {
          throw this.#unreachable(known)
        }
        await setTimeout(POLL, undefined, { signal: work.signal })
      }
    } finally {
      release()
    }
  }

  /** Throws UNREACHABLE when not all of a version is on this host. */
  async requireHere(known: Known): Promise<void> {
    if (!(await this.isHere(known))) throw this.#unreachable(known)
  }

  /**
   * Runs work that waits for blocks, and fails with UNREACHABLE when it has waited for `timeout` ms
   * and nothing of the version has come. Time in which it does not wait for a block does not count.
   */
  async watch<T>(
    known: Known,
    { timeout }: { timeout: number },
    work: Work,
    run: (work: Work) => Promise<T>
  ): Promise<T> {
    const stop = new AbortController()
    const sayWaiting = this.#waiting(known, work)
    let last = performance.now()
    let isLost = false
    const report: Work['report'] = (progress) => {
      last = performance.now()
      work.report(progress)
    }
    const timer = setInterval(() => {
      const isWaiting = this.#set.missingLogs > 0 || this.#set.logs().some((log) => log.isRead)
      if (!isWaiting) last = performance.now()
      const silent = performance.now() - Math.max(last, this.#set.lastDownload)
      if (silent > LONG) sayWaiting()
      if (silent <= timeout) return
      isLost = true
      stop.abort()
    }, POLL)
    try {
      return await run({ ...work, report, signal: AbortSignal.any([work.signal, stop.signal]) })
    } catch (error) {
      work.signal.throwIfAborted()
      if (isLost) throw this.#unreachable(known)
      throw error
    } finally {
      clearInterval(timer)
    }
  }

  /** Says once for whom somebody waits. */
  #waiting(known: Known, work: Work): () => void {
    let isSaid = false
    return () => {
      if (isSaid) return
      isSaid = true
      const holders = this.#holderNames(known)
      const whom = holders.length === 0 ? 'a host that has some of it' : holders.join(' or ')
      work.note(`fetching: nothing has come for ${LONG / 1_000} s, it waits for ${whom}`)
    }
  }

  #holderNames(known: Known): string[] {
    return [...this.holders(known)].map((host) => this.#set.nameOf(host))
  }

  #unreachable(known: Known): ParcelError {
    const { here, total } = this.blocksOf(known)
    const holders = this.#holderNames(known)
    return new ParcelError(
      'UNREACHABLE',
      `${here} of ${total} blocks of this version are here and no host sends the rest: ` +
        (holders.length === 0
          ? 'no host is known to have all of it'
          : `bring one of ${holders.join(', ')} online and do it again`)
    )
  }
}
