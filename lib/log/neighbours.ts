import type Hypercore from 'hypercore'
import type { Peer } from 'hypercore'

/** A neighbour that has brought nothing for so long, ms, or so many times as long as a block takes, is not counted on. */
const PATIENCE = { least: 4_000, blocks: 6, most: 60_000 } as const
/** And for so long, ms. */
const PENANCE = 60_000
/** What was left to neighbours is looked at again so often, ms. */
const AGAIN = 1_000
/** How much the last block counts in how long one takes. */
const WEIGHT = 0.3

/** What a neighbour does for us, by `performance.now`. */
interface Known {
  /** When something was first left to it that it has not brought; null: nothing is. */
  since: number | null
  untilForgiven: number
}

/**
 * Decides from now on of whom blocks of a core are asked that nobody waits for. What a host nearby has comes
 * from there; what several hosts nearby lack, each of them fetches a share of from afar, by turns, and gives to
 * the others: it crosses a slow link once. Who does not keep up is not counted on for a while. `self`: key of
 * this host, in hex.
 */
export function shareWithNeighbours(
  core: Hypercore,
  self: string,
  isNear: (host: string) => boolean
): void {
  // It lives as long as the core does.
  void new Neighbours(core, self, isNear)
}

class Neighbours {
  readonly #core: Hypercore
  readonly #self: string
  readonly #isNear: (host: string) => boolean
  readonly #known = new Map<Peer, Known>()
  /** How long a block takes from afar, ms, and when the last one came. */
  #usual = 0
  #last = performance.now()
  #isLookDue = false

  constructor(core: Hypercore, self: string, isNear: (host: string) => boolean) {
    this.#core = core
    this.#self = self
    this.#isNear = isNear
    core.on('peer-add', (peer: Peer) => this.#watch(peer))
    core.on('peer-remove', (peer: Peer) => this.#known.delete(peer))
    core.on('download', (_index: number, _bytes: number, peer?: Peer) => {
      if (peer !== undefined) this.#came(peer)
    })
  }

  #watch(peer: Peer): void {
    this.#known.set(peer, { since: null, untilForgiven: -Infinity })
    // oxlint-disable no-underscore-dangle -- hypercore has no other place to decide this
    const [request, onrange] = [peer._requestRangeBlock.bind(peer), peer.onrange.bind(peer)]
    peer._requestRangeBlock = (index, length) => this.#mayAsk(peer, index) && request(index, length)
    // oxlint-enable no-underscore-dangle
    peer.onrange = (message) => {
      // It has got something that it can give.
      const known = this.#known.get(peer)
      if (known !== undefined && !message.drop) known.since = null
      return onrange(message)
    }
  }

  #came(peer: Peer): void {
    const known = this.#known.get(peer)
    if (known !== undefined) known.since = null
    if (this.#isClose(peer)) return
    const now = performance.now()
    this.#usual += WEIGHT * (now - this.#last - this.#usual)
    this.#last = now
  }

  #isClose(peer: Peer): boolean {
    return this.#isNear(peer.remotePublicKey.toString('hex'))
  }

  #mayAsk(peer: Peer, index: number): boolean {
    if (this.#isClose(peer)) return true
    const now = performance.now()
    const near = this.#core.peers.filter((each) => this.#isClose(each) && this.#counts(each, now))
    if (near.length === 0) return true
    // oxlint-disable-next-line no-underscore-dangle -- as above
    const having = near.find((each) => each._remoteHasBlock(index))
    const chosen = having ?? this.#turn(near, index)
    if (chosen === null) return true
    const known = this.#known.get(chosen)
    if (known !== undefined) known.since ??= now
    this.#lookAgain()
    return false
  }

  /** Whose turn it is to fetch a block from afar; null: ours. */
  #turn(near: readonly Peer[], index: number): Peer | null {
    const names = new Map<string, Peer | null>([[this.#self, null]])
    for (const each of near) names.set(each.remotePublicKey.toString('hex'), each)
    const hosts = [...names.keys()].toSorted()
    return names.get(hosts[index % hosts.length] ?? '') ?? null
  }

  /** Whether a neighbour can be counted on. */
  #counts(peer: Peer, now: number): boolean {
    const known = this.#known.get(peer)
    if (known === undefined || known.untilForgiven > now) return false
    // As long as we are busy with our own share they may be with theirs.
    if (this.#core.peers.some((each) => each.inflight > 0 && !this.#isClose(each))) {
      known.since = null
      return true
    }
    const { least, blocks, most } = PATIENCE
    const patience = Math.min(most, Math.max(least, blocks * this.#usual))
    if (known.since === null || now - known.since < patience) return true
    known.since = null
    known.untilForgiven = now + PENANCE
    return false
  }

  /** What is left to others may have to be asked of somebody else. */
  #lookAgain(): void {
    if (this.#isLookDue) return
    this.#isLookDue = true
    setTimeout(() => {
      this.#isLookDue = false
      if (this.#core.closing !== null) return
      const { replicator } = this.#core.core
      for (const peer of this.#core.peers) if (!this.#isClose(peer)) replicator.updatePeer(peer)
    }, AGAIN).unref()
  }
}
