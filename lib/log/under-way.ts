import type Hypercore from 'hypercore'
import type { Peer } from 'hypercore'

/** So much is asked of one peer at a time as comes in this, ms: what it does not send by then others can. */
const SPAN = 1_500
/** Blocks under way with one peer: when its speed is not known yet, at least, at most. */
const [FIRST, LEAST, MOST] = [4, 2, 48]
/** How much the last block counts. */
const WEIGHT = 0.3
/** A peer that has sent nothing of what it was asked for in this, ms, or so many times as long as a block takes, is stuck. */
const STUCK = { least: 3_000, blocks: 4, most: 20_000 } as const
const LOOK = 500

interface Known {
  /** Ours, as long as nobody else has set another. */
  range: [number, number]
  /** How long a block takes, ms; null: that is not known. */
  took: number | null
  /** When one came last, by `performance.now`, if others were under way then. */
  last: number | null
  /** Since when it has been asked for something and has sent nothing; null: it is not. */
  since: number | null
}

/**
 * Decides from now on how many blocks a core asks of one peer at a time: as many as its link brings in a short while. With more a
 * second source that comes later would get none, and a slow link would be full of what is wanted least. What one
 * peer was asked for is asked of others only when that one is stuck: hypercore, left alone, asks whoever has
 * nothing to do for what is on its way already, and on slow links much would come twice.
 */
export function watchUnderWay(core: Hypercore): void {
  // It lives as long as the core does.
  void new UnderWay(core)
}

class UnderWay {
  readonly #core: Hypercore
  readonly #known = new Map<Peer, Known>()
  #timer: NodeJS.Timeout | null = null

  constructor(core: Hypercore) {
    this.#core = core
    core.on('peer-add', (peer: Peer) => {
      const range: [number, number] = [FIRST, FIRST]
      this.#known.set(peer, { range, took: null, last: null, since: null })
      peer.inflightRange = range
      const helping = peer.getMaxHotswapInflight.bind(peer)
      // It is asked whenever something is about to be requested.
      peer.getMaxHotswapInflight = () => {
        this.#watch()
        return this.#isStuck(peer) ? helping() : 0
      }
    })
    core.on('peer-remove', (peer: Peer) => this.#known.delete(peer))
    core.on('download', (_index: number, _bytes: number, peer?: Peer) => {
      if (peer !== undefined) this.#came(peer)
    })
  }

  /** As long as something is under way. */
  #watch(): void {
    if (this.#timer !== null) return
    this.#timer = setInterval(() => this.#look(), LOOK).unref()
  }

  /** Whether another peer than this one is stuck. */
  #isStuck(helper: Peer): boolean {
    const now = performance.now()
    for (const [peer, { since, took }] of this.#known) {
      if (peer === helper || since === null) continue
      const patience = Math.min(STUCK.most, Math.max(STUCK.least, STUCK.blocks * (took ?? 0)))
      if (now - since > patience) return true
    }
    return false
  }

  /** Who is asked for something, and since when; and whether somebody is to help. */
  #look(): void {
    const now = performance.now()
    for (const [peer, known] of this.#known) {
      known.since = peer.inflight === 0 ? null : (known.since ?? now)
    }
    if ([...this.#known.values()].every(({ since }) => since === null)) {
      clearInterval(this.#timer ?? undefined)
      this.#timer = null
      return
    }
    for (const peer of this.#known.keys()) {
      if (this.#isStuck(peer)) this.#core.core.replicator.updatePeer(peer)
    }
  }

  #came(peer: Peer): void {
    const known = this.#known.get(peer)
    if (known === undefined) return
    const now = performance.now()
    const { last } = known
    known.since = null
    // From the last one on nothing may have been asked for: then that time says nothing.
    known.last = peer.inflight > 1 ? now : null
    if (last === null) return
    known.took = known.took === null ? now - last : known.took + WEIGHT * (now - last - known.took)
    const count = Math.min(MOST, Math.max(LEAST, Math.ceil(SPAN / Math.max(known.took, 1))))
    if (peer.inflightRange !== known.range || known.range[0] === count) return
    known.range = [count, count]
    peer.inflightRange = known.range
  }
}
