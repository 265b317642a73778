import type Hypercore from 'hypercore'
import type { Peer } from 'hypercore'
import type { RateLimit } from './rate-limit.js'

/** Bytes of the largest block. */
const LARGEST = 1_048_576

/**
 * Asks a peer for blocks that nobody waits for only when its limit, by host in hex, lets more come; other
 * peers are asked meanwhile.
 */
export function limitReceiving(core: Hypercore, limitOf: (host: string) => RateLimit): void {
  core.on('peer-add', (peer: Peer) => {
    // oxlint-disable no-underscore-dangle -- hypercore has no other place to decide this
    const ask = peer._requestRangeBlock.bind(peer)
    const host = peer.remotePublicKey.toString('hex')
    let isWaiting = false
    peer._requestRangeBlock = (index, length) => {
      const limit = limitOf(host)
      // What is under way is not counted yet: at a low rate it is little.
      const most = Math.max(1, Math.floor(limit.rate / LARGEST))
      if (limit.isFree) return peer.inflight < most && ask(index, length)
      if (isWaiting) return false
      isWaiting = true
      void limit.turn().then(() => {
        isWaiting = false
        if (!peer.removed) core.core.replicator.updatePeer(peer)
      })
      return false
    }
    // oxlint-enable no-underscore-dangle
  })
}
