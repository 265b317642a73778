import Hyperswarm, { type Connection } from 'hyperswarm'

/** So long a dial of our own may take to become the connection that two hosts agree on, ms. */
const GRACE = 2_000

/**
 * Hyperswarm, but for one case. When two hosts dial each other at the same time both keep the
 * connection that the one with the greater key dialled. Hyperswarm refuses the other one at once,
 * also when our own dial goes to where that host was before it moved or crashed, and takes many
 * seconds to fail. Here the other one waits beside it until it is known what becomes of ours.
 */
export class PatientSwarm extends Hyperswarm {
  // oxlint-disable no-underscore-dangle -- hyperswarm has no other place to decide this
  override _handleServerConnection(connection: Connection): void {
    const dialled = this._allConnections.get(connection.remotePublicKey)
    const isPending = dialled !== undefined && dialled.isInitiator && !this.connections.has(dialled)
    const isOursKept = Buffer.compare(connection.publicKey, connection.remotePublicKey) > 0
    if (!isPending || !isOursKept) {
      super._handleServerConnection(connection)
      return
    }
    const give = (): void => void dialled.destroy()
    const timer = setTimeout(give, GRACE)
    const onError = (): void => {}
    const onOpen = (): void => {
      stop()
      connection.destroy()
    }
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
      dialled.off('close', onClose)
      connection.off('close', stop)
    }
    dialled.on('open', onOpen)
    dialled.on('close', onClose)
    connection.on('close', stop)
    connection.on('error', onError)
  }
  // oxlint-enable no-underscore-dangle
}
