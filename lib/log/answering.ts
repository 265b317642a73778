import type Hypercore from 'hypercore'
import type { Peer } from 'hypercore'
import type Protomux from 'protomux'

/** Requests of one connection that are answered at a time: so many blocks of it are in memory. */
const AT_ONCE = 16
/** So many may wait: honest hosts have fewer under way, all logs of a connection together. */
const MOST_WAITING = 16_384

/** What one connection has asked for, of whatever logs. */
class Turns {
  /** Requests that were not answered yet. */
  waiting = 0
  #active = 0
  readonly #queue: (() => void)[] = []

  async run(answer: () => Promise<void>): Promise<void> {
    if (this.#active >= AT_ONCE) await new Promise<void>((resolve) => this.#queue.push(resolve))
    else this.#active++
    try {
      await answer()
    } finally {
      // Whoever is next takes the place over.
      const next = this.#queue.shift()
      if (next === undefined) this.#active--
      else next()
    }
  }
}

const turns = new WeakMap<Protomux, Turns>()

function turnsOf(mux: Protomux): Turns {
  const known = turns.get(mux)
  if (known !== undefined) return known
  const made = new Turns()
  turns.set(mux, made)
  return made
}

/**
 * Answers what peers ask of a core a few at a time, where hypercore begins with all that it reads off a
 * connection at once, and would have all those blocks in memory. `sending`, if given, runs what sends a block
 * to a host, in hex, when that may go. A connection that asks for more than can be meant is ended.
 */
export function answerInTurn(
  core: Hypercore,
  sending: ((host: string, send: () => Promise<void>) => Promise<void>) | null
): void {
  core.on('peer-add', (peer: Peer) => {
    const [answer, cancel] = [peer.onrequest.bind(peer), peer.oncancel.bind(peer)]
    const host = peer.remotePublicKey.toString('hex')
    const connection = turnsOf(peer.protomux)
    // hypercore knows only of those that it has begun with which were called off.
    const waiting = new Map<number, object>()
    const onrequest: Peer['onrequest'] = async (request) => {
      if (connection.waiting >= MOST_WAITING || peer.remoteRequests.size >= MOST_WAITING) {
        peer.protomux.stream.destroy(new Error('remote exceeded what may be asked for at once'))
        return
      }
      waiting.set(request.id, request)
      const begin = async (): Promise<void> => {
        if (waiting.get(request.id) !== request || peer.removed) return
        waiting.delete(request.id)
        await answer(request)
      }
      // Who waits for a limit has no turn meanwhile: records wait for none.
      const inTurn = (): Promise<void> => connection.run(begin)
      connection.waiting++
      try {
        await (sending === null || request.block === null ? inTurn() : sending(host, inTurn))
      } finally {
        connection.waiting--
      }
    }
    const oncancel: Peer['oncancel'] = (message) => {
      waiting.delete(message.request)
      cancel(message)
    }
    Object.assign(peer, { onrequest, oncancel })
  })
}
