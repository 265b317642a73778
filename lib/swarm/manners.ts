import type { Duplex } from 'node:stream'
import Protomux from 'protomux'

/** What a channel is opened for, and how many that nobody here knows are let pass on one stream. */
const MOST_UNKNOWN: readonly [protocol: string, most: number][] = [
  // Parcels that this host is not in, or not yet.
  ['hyperparcel', 256],
  // Logs that were not announced yet.
  ['hypercore/alpha', 4_096]
]
/** What the layers below say of bytes that no honest peer sends. */
const BROKEN = /^(invalid |out of bounds|remote exceeded|unexpected )/i
/** What `answerInTurn` says. */
const GREEDY = 'remote exceeded what may be asked for at once'

/**
 * Watches a stream of a host that is trusted, which may lie or break all the same. `onRude` is
 * called once, with what it did that no honest host does.
 */
export function watchManners(stream: Duplex, onRude: (what: string) => void): void {
  const mux = Protomux.from(stream)
  let isRude = false
  const report = (what: string): void => {
    if (isRude) return
    isRude = true
    onRude(what)
  }
  for (const [protocol, most] of MOST_UNKNOWN) {
    // By name: an honest host opens one again and again, when what it shares has changed.
    const unknown = new Set<string>()
    mux.pair({ protocol, id: null }, (id) => {
      unknown.add(id?.toString('hex', 0, 32) ?? '')
      if (unknown.size > most) report(`opened more than ${most} channels that nobody knows`)
    })
  }
  stream.on('error', (error: Error) => {
    if (error.message === GREEDY) report('asked for everything at once')
    else if (BROKEN.test(error.message)) report('sent what is no message')
  })
}
