import Hyperswarm, { type Connection, type PeerInfo, type SwarmOptions } from 'hyperswarm'

/** So long a dial of our own may take to become the connection that two hosts agree on, ms. */
const GRACE = 2_000

/** A host that so many dials in succession did not reach is dialled through a relay too. */
const ATTEMPTS = 2

/**
 * Hyperswarm, but for two cases. A host that some dials in vain did not reach is dialled through a relay
 * too, one that may serve both; hyperswarm's own relaying begins after errors that say that no NAT was
 * passed, which a firewall does not, and from then on it tries every second. And when two hosts dial each other at the same time both keep the
 * connection that the one with the greater key dialled. Hyperswarm refuses the other one at once,
 * also when our own dial goes to where that host was before it moved or crashed, or to where nothing
 * passes, and takes many seconds to fail. Here the other one waits beside it until it is known what
 * becomes of ours, which is open before anything has come from that host.
 */
export class PatientSwarm extends Hyperswarm {
  readonly #relayTo: (host: Buffer) => Buffer | null
  /** Who is dialled just now. */
  #dialled: PeerInfo | null = null

  /** `relayTo`: the key of a relay through which a host may be reached; null: there is none. */
  constructor({
    relayTo = () => null,
    ...options
  }: SwarmOptions & { relayTo?: (host: Buffer) => Buffer | null }) {
    super(options)
    this.#relayTo = relayTo
  }

  // oxlint-disable no-underscore-dangle -- hyperswarm has no other place to decide this
  override _connect(peer: PeerInfo, isQueued: boolean): void {
    this.#dialled = peer
    super._connect(peer, isQueued)
    this.#dialled = null
  }

  override _maybeRelayConnection(): Buffer | null {
    const peer = this.#dialled
    // Who dials us says through whom.
    if (peer === null) return null
    return peer.attempts >= ATTEMPTS ? this.#relayTo(peer.publicKey) : null
  }

  override _handleServerConnection(connection: Connection): void {
    const dialled = this._allConnections.get(connection.remotePublicKey)
    const isPending = dialled !== undefined && dialled.isInitiator && dialled.rawBytesRead === 0
    const isOursKept = Buffer.compare(connection.publicKey, connection.remotePublicKey) > 0
    if (!isPending || !isOursKept) {
      super._handleServerConnection(connection)
      return
    }
    const give = (): void => void dialled.destroy()
    const timer = setTimeout(give, GRACE)
    const onError = (): void => {}
    const onHeard = (): void => {
      stop()
      connection.destroy()
    }
    const onOpen = (): void => void dialled.rawStream.once('data', onHeard)
    const onClose = (): void => {
      stop()
      if (connection.destroying) return
      // From here on somebody else listens.
      this._handleServerConnection(connection)
      connection.off('error', onError)
    }
    const stop = (): void => {
      clearTimeout(timer)
      dialled.off('open', onOpen)
      if (this.connections.has(dialled)) dialled.rawStream.off('data', onHeard)
      dialled.off('close', onClose)
      connection.off('close', stop)
    }
    if (this.connections.has(dialled)) onOpen()
    else dialled.on('open', onOpen)
    dialled.on('close', onClose)
    connection.on('close', stop)
    connection.on('error', onError)
  }
  // oxlint-enable no-underscore-dangle
}
