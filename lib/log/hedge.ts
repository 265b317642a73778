import type Hypercore from 'hypercore'
import type { BlockRequest, Peer } from 'hypercore'

/** A wait is long when it is so many times what is usual here, and within these bounds, ms. */
const LONG = 3
const [SHORTEST, LONGEST] = [300, 5_000]
/** How much the last wait counts in what is usual. */
const WEIGHT = 0.2
/** So soon somebody must have been asked, ms. */
const SOON = 50
/** A peer that was overtaken is asked for nothing for so long, ms. */
const PENANCE = 10_000
const MOST_RETRIES = 20
const NOTHING: [number, number] = [0, 0]

/**
 * A second peer for a block that the first one is long in sending. Hypercore does that too, but only
 * when other blocks come from the faster one meanwhile; whoever waits for a single block would wait
 * as long as the slowest takes. Who was overtaken is left alone for a while, unless nobody else can
 * be asked.
 */
export class Hedge {
  readonly #core: Hypercore
  /** How often a peer that was given up was asked again. */
  readonly #retried = new WeakMap<Peer, number>()
  readonly #penitents = new Map<Peer, { usual: [number, number]; timer: NodeJS.Timeout }>()
  #usual = SHORTEST / LONG

  constructor(core: Hypercore) {
    this.#core = core
    // Those who are left may be all that there are.
    core.on('peer-remove', () => this.#forgiveAll())
  }

  /**
   * To be called when a block was asked for; the returned function when it has come, or is not wanted. Where
   * nobody waits for it a slow peer is not hurried: only one that sends nothing is asked in vain.
   */
  watch(index: number, { isUrgent = true } = {}): (isHere: boolean) => void {
    const since = performance.now()
    const late: Peer[] = []
    const shortest = isUrgent ? SHORTEST : LONGEST
    let wait = Math.min(LONGEST, Math.max(shortest, LONG * this.#usual))
    const again = (): void => {
      late.push(...this.#askAnother(index))
      wait *= 2
      timer = setTimeout(again, wait)
    }
    let timer = setTimeout(() => {
      if (this.#askedFor(index).length === 0) this.#forgiveAll()
      timer = setTimeout(again, wait - SOON)
    }, SOON)
    let by: Peer | null = null
    const onDownload = (block: number, _: number, peer: Peer): void => {
      if (block === index) by = peer
    }
    this.#core.on('download', onDownload)
    return (isHere) => {
      clearTimeout(timer)
      this.#core.off('download', onDownload)
      if (!isHere || by === null) return
      const took = Math.min(LONGEST, performance.now() - since)
      if (late.length === 0) this.#usual += WEIGHT * (took - this.#usual)
      for (const peer of late) this.#punish(peer, by)
    }
  }

  /**
   * Asks those again whom hypercore has given up, which it does for as long as the connection lasts:
   * a writer that has cleared what it is asked for, which it says in another log, does not have some
   * fifty blocks in a row, and that is nobody's fault. Who sends nothing good is given up in the end.
   */
  retry(): void {
    for (const peer of this.#core.peers) {
      const count = this.#retried.get(peer) ?? 0
      if (!peer.paused || count >= MOST_RETRIES) continue
      this.#retried.set(peer, count + 1)
      peer.paused = false
      peer.stats.notAvailableBackoffs = 0
      const { replicator } = this.#core.core
      // oxlint-disable-next-line no-underscore-dangle -- it has not asked for the rest of the log either
      replicator._addUpgradeMaybe()
      replicator.updatePeer(peer)
    }
  }

  #requestFor(index: number): BlockRequest | null {
    // oxlint-disable-next-line no-underscore-dangle -- hypercore has no other way to ask a second peer
    return this.#core.core.replicator._blocks.get(index)
  }

  #askedFor(index: number): Peer[] {
    return this.#requestFor(index)?.inflight.map(({ peer }) => peer) ?? []
  }

  /** Returns who has let us wait, if another could be asked. */
  #askAnother(index: number): Peer[] {
    const request = this.#requestFor(index)
    if (request === null) return []
    const asked = this.#askedFor(index)
    for (const peer of this.#core.peers) {
      // oxlint-disable-next-line no-underscore-dangle -- as above
      if (!asked.includes(peer) && peer._requestBlock(request)) return asked
    }
    return []
  }

  #punish(peer: Peer, winner: Peer): void {
    // Two connections with one host are as fast as each other.
    const isSame = peer.remotePublicKey.equals(winner.remotePublicKey)
    if (isSame || this.#penitents.has(peer) || this.#penitents.has(winner)) return
    const timer = setTimeout(() => this.#forgive(peer), PENANCE).unref()
    this.#penitents.set(peer, { usual: peer.inflightRange, timer })
    peer.inflightRange = NOTHING
  }

  #forgiveAll(): void {
    for (const peer of this.#penitents.keys()) this.#forgive(peer)
  }

  #forgive(peer: Peer): void {
    const penance = this.#penitents.get(peer)
    if (penance === undefined) return
    clearTimeout(penance.timer)
    this.#penitents.delete(peer)
    peer.inflightRange = penance.usual
    if (this.#core.peers.includes(peer)) this.#core.core.replicator.updatePeer(peer)
  }
}
