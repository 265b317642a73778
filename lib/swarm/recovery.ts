import { raw } from 'compact-encoding'
import Hyperswarm, { type Connection } from 'hyperswarm'
import Protomux from 'protomux'
import {
  decodeRecoveryAnswer,
  encodeRecoveryAnswer,
  type RecoveryAnswer
} from '../format/recovery.js'
import type { Identity } from '../keys/identity.js'
import { createNode, leave, type Node } from './dht.js'
import type { SharedParcel } from './shared-parcel.js'

const PROTOCOL = 'hyperparcel/recovery'
/** So often one connection is answered. */
const MOST_ASKED = 8
/** Who lies can send no end of them. */
const MOST_ANSWERS = 4_096

/** Answers a host that has lost its parcels which of ours it is in, should it ask. */
export function answerRecovery(
  connection: Connection,
  host: string,
  parcels: () => Iterable<SharedParcel>
): void {
  const mux = Protomux.from(connection)
  let left = MOST_ASKED
  mux.pair({ protocol: PROTOCOL }, () => {
    if (left-- <= 0) return
    const channel = mux.createChannel({
      protocol: PROTOCOL,
      handshake: raw,
      messages: [{ encoding: raw, onmessage: () => {} }],
      onopen: () => {
        for (const parcel of parcels()) {
          const answer = parcel.peers.trusted().has(host) ? parcel.peers.recoveryFor(host) : null
          if (answer !== null) channel?.messages[0]?.send(encodeRecoveryAnswer(answer))
        }
        channel?.close()
      },
      onclose: () => {}
    })
    channel?.open(Buffer.alloc(0))
  })
}

/**
 * Looks, for a host that has nothing but its identity, for members of its parcels. They announce
 * themselves where only it can know to look, and trust its key; it may trust nobody yet, so of what
 * they answer only that counts which it has signed itself. Whom its own swarm has met already is
 * asked over that connection: two hosts keep but one.
 */
export class RecoverySearch {
  readonly #swarm: Hyperswarm
  readonly #onAnswer: (answer: RecoveryAnswer) => void
  /** Hosts that have answered, in hex: none is asked twice. */
  readonly #heard = new Set<string>()

  /** `onAnswer` throws for what is not of this host. */
  constructor(
    identity: Identity,
    bootstrap: Node[] | null,
    onAnswer: (answer: RecoveryAnswer) => void
  ) {
    this.#onAnswer = onAnswer
    this.#swarm = new Hyperswarm({
      keyPair: identity.keyPair,
      dht: createNode(bootstrap),
      firewall: (key) => this.#heard.has(key.toString('hex'))
    })
    this.#swarm.on('connection', (connection) => {
      connection.on('error', () => {})
      // The host's own swarm meets it from here on.
      this.ask(connection, () => connection.destroy())
    })
    this.#swarm.join(identity.recoveryTopic, { server: false, client: true })
  }

  /** How many hosts have answered. */
  get heard(): number {
    return this.#heard.size
  }

  async close(): Promise<void> {
    await leave(this.#swarm)
  }

  /** Asks a host over a connection there is; `onEnd`, when it has said all or something wrong. */
  ask(connection: Connection, onEnd: () => void = () => {}): void {
    const host = connection.remotePublicKey.toString('hex')
    if (this.#heard.has(host)) return onEnd()
    let left = MOST_ANSWERS
    const onMessage = (bytes: Buffer): void => {
      try {
        if (left-- <= 0) throw new RangeError('too many answers')
        this.#onAnswer(decodeRecoveryAnswer(bytes))
      } catch {
        // Whoever it is, it has nothing of ours.
        this.#heard.add(host)
        channel?.close()
      }
    }
    const channel = Protomux.from(connection).createChannel({
      protocol: PROTOCOL,
      handshake: raw,
      messages: [{ encoding: raw, onmessage: onMessage }],
      onopen: () => {},
      onclose: () => {
        // A connection that was cut, as one of two at the same time is, has not said all: that host
        // is asked again.
        if (!connection.destroying) this.#heard.add(host)
        onEnd()
      }
    })
    if (channel === null) onEnd()
    else channel.open(Buffer.alloc(0))
  }
}
