import { mayWrite, type Control } from '../members/control.js'
import type { OpenLog } from './open-log.js'

interface Parts {
  control: Control
  /** It cannot read what it keeps: a vault. */
  isBlind: () => boolean
  /** Whether it is known from a log itself who writes it. */
  isHeaderRead: (open: OpenLog) => Promise<boolean>
  /** Hosts, in hex, to which a vault carries what they lack; none: it keeps all. */
  carriesTo: () => readonly string[]
  /** This host, a vault, need not keep these `data` logs, in hex. */
  onAbandoned: (cores: ReadonlySet<string>) => void
  reclaim: () => Promise<void>
  /** Of a host, in hex. */
  problem: (host: string, text: string) => void
}

/** What of `data` logs need not be here: by the word of who writes them, and by where a vault goes. */
export class Drops {
  readonly #parts: Parts
  /** `data` logs, in hex, and who says that nobody has to have them: for who keeps what it cannot read. */
  readonly #abandoned = new Map<string, Set<string>>()
  /** A vault on its way: up to which length of `data` logs, in hex, the hosts that it goes to have all. */
  readonly #carried = new Map<string, number>()

  constructor(parts: Parts) {
    this.#parts = parts
  }

  /**
   * Heeds what a host's control log says of its data logs, and of nobody else's. Whether what had been heeded
   * must be heeded anew.
   */
  async heed(logs: ReadonlyMap<string, OpenLog>): Promise<boolean> {
    const { control, isHeaderRead } = this.#parts
    const isBlind = this.#parts.isBlind()
    // A vault keeps nothing for itself: what the writer does not need it does not keep.
    const isCleared = isBlind ? { isCleared: true } : {}
    let cleared = 0
    for (const [key, open] of logs) {
      if (open.log.kind !== 'data' || open.claims !== null) continue
      const drops = control.drops(key)
      if (open.drops === drops.length) continue
      if (!(isBlind ? this.#isOnlyWriter(open) : await isHeaderRead(open))) continue
      for (; open.drops < drops.length; open.drops++) {
        const drop = drops[open.drops]
        if (drop === undefined || !control.countsDrop(drop)) continue
        // Of a whole log each host knows itself what it needs; for who does not, see `#heedAbandoned`.
        const isAll = drop.ranges.some(({ start }) => start === 0)
        if (isAll && isBlind) {
          const authors = this.#abandoned.get(key) ?? new Set()
          this.#abandoned.set(key, authors.add(drop.author))
        }
        if (isAll || drop.author !== open.host) continue
        cleared += await open.log.drop(drop.ranges, isCleared)
      }
    }
    const carried = isBlind ? await this.#heedCarried(logs) : { cleared: 0, isLess: false }
    cleared += carried.cleared
    if (isBlind && cleared > 0) await this.#parts.reclaim()
    this.#heedAbandoned(logs)
    return carried.isLess
  }

  /** Clears what the hosts to which this vault goes have signed for, all of them. How many blocks that were. */
  async #heedCarried(
    logs: ReadonlyMap<string, OpenLog>
  ): Promise<{ cleared: number; isLess: boolean }> {
    const to = this.#parts.carriesTo()
    let [cleared, isLess] = [0, false]
    if (to.length === 0 && this.#carried.size === 0) return { cleared, isLess }
    const signed = this.#parts.control.receipts.lengths()
    for (const [core, open] of logs) {
      const { log, host } = open
      if (log.kind !== 'data') continue
      const lengthAt = (each: string): number =>
        each === host ? log.length : (signed.get(each)?.get(core) ?? 0)
      const length = to.length === 0 ? 0 : Math.min(log.length, ...to.map(lengthAt))
      const before = this.#carried.get(core) ?? 0
      this.#carried.set(core, length)
      if (length < before) {
        // One of them has lost it, or there is another one. What its writer dropped is looked up again.
        log.undrop()
        open.drops = 0
        isLess = true
      }
      // The first block says whose log it is.
      if (length > 1) cleared += await log.drop([{ start: 1, end: length }], { isCleared: true })
    }
    if (to.length === 0) this.#carried.clear()
    return { cleared, isLess }
  }

  /**
   * Logs that nobody has to have: its writer says so, and everybody who makes versions and has ever signed
   * for it. Who has signed and says nothing may have let go of it since because it is here.
   */
  #heedAbandoned(logs: ReadonlyMap<string, OpenLog>): void {
    const { control, onAbandoned } = this.#parts
    const gone = new Set<string>()
    for (const [core, authors] of this.#abandoned) {
      const open = logs.get(core)
      if (open === undefined || !authors.has(open.host)) continue
      const { roles } = control.members
      const isWanted = [...control.receipts.signersOf(core)].some((host) => {
        const role = roles.get(host)
        return role !== undefined && mayWrite(role) && !authors.has(host)
      })
      if (!isWanted) gone.add(core)
    }
    if (gone.size > 0) onAbandoned(gone)
  }

  /** For who cannot read a log: whether nobody but one host says that it is its own. */
  #isOnlyWriter(open: OpenLog): boolean {
    const { key } = open.log
    const announcers = this.#parts.control.announcersOf(key)
    const isOthers = announcers.some((host) => host.toString('hex') !== open.host)
    if (!isOthers) return true
    this.#parts.problem(open.host, 'two hosts say that a log is theirs: nothing of it is dropped')
    if (open.drops > 0) open.log.undrop()
    open.drops = 0
    return false
  }
}
