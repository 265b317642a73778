import type Hypercore from 'hypercore'
import type { Peer } from 'hypercore'

/** A wait is long when it is so many times what is usual here, and within these bounds, ms. */
const LONG = 3
const [SHORTEST, LONGEST] = [300, 5_000]
/** How much the last wait counts in what is usual. */
const WEIGHT = 0.2
/** A peer that was overtaken is not asked for so long, but for blocks that nobody else sends, ms. */
const PENANCE = 30_000
const NOTHING: [number, number] = [0, 0]

/**
 * A second peer for a block that the first one is long in sending. Hypercore does that too, but only
 * when other blocks come from the faster one meanwhile; whoever waits for a single block would wait
 * as long as the slowest takes.
 */
export class Hedge {
  readonly #core: Hypercore
  #usual = SHORTEST / LONG

  constructor(core: Hypercore) {
    this.#core = core
  }

  /** To be called when a block was asked for; the returned function when it has come, or is not wanted. */
  watch(index: number): (isHere: boolean) => void {
    const since = performance.now()
    const late: Peer[] = []
    let wait = Math.min(LONGEST, Math.max(SHORTEST, LONG * this.#usual))
    const again = (): void => {
      late.push(...this.#askAnother(index))
      wait *= 2
      timer = setTimeout(again, wait)
    }
    let timer = setTimeout(again, wait)
    let by: Peer | null = null
    const onDownload = (block: number, _: number, peer: Peer): void => {
      if (block === index) by = peer
    }
    this.#core.on('download', onDownload)
    return (isHere) => {
      clearTimeout(timer)
      this.#core.off('download', onDownload)
      if (isHere && late.length === 0) {
        this.#usual += WEIGHT * (performance.now() - since - this.#usual)
      }
      if (by !== null) for (const peer of late) if (peer !== by) slowDown(peer)
    }
  }

  /** Returns who has let us wait, if another could be asked. */
  #askAnother(index: number): Peer[] {
    // oxlint-disable-next-line no-underscore-dangle -- hypercore has no other way to ask a second peer
    const request = this.#core.core.replicator._blocks.get(index)
    if (request === null) return []
    const asked = request.inflight.map(({ peer }) => peer)
    for (const peer of this.#core.peers) {
      // oxlint-disable-next-line no-underscore-dangle -- as above
      if (!asked.includes(peer) && peer._requestBlock(request)) return asked
    }
    return []
  }
}

function slowDown(peer: Peer): void {
  if (peer.inflightRange === NOTHING) return
  const usual = peer.inflightRange
  peer.inflightRange = NOTHING
  setTimeout(() => (peer.inflightRange = usual), PENANCE).unref()
}
