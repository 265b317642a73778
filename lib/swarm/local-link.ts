import NoiseSecretStream from '@hyperswarm/secret-stream'
import { Duplex } from 'node:stream'
import type { Connection } from 'hyperswarm'
import type { KeyPair } from '../keys/identity.js'

/** One end of a pipe within this process. What is written comes out of the other in a later turn, as from a socket. */
class End extends Duplex {
  other: End | null = null
  /** Until the other end has taken what was written. */
  #taken: (() => void) | null = null

  override _write(bytes: Buffer, _: string, done: () => void): void {
    setImmediate(() => {
      const { other } = this
      if (other === null || other.destroyed || other.push(bytes)) done()
      else other.#taken = done
    })
  }

  override _read(): void {
    const done = this.#taken
    this.#taken = null
    done?.()
  }

  override _final(done: () => void): void {
    setImmediate(() => {
      this.other?.push(null)
      done()
    })
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    this.#taken?.()
    setImmediate(() => this.other?.destroy())
    done(error)
  }
}

/**
 * A connection of two hosts in one process, both ends of it, as each side's swarm would have it from
 * the network. null: one of them was closed meanwhile.
 */
export async function localLink(
  here: KeyPair,
  there: KeyPair
): Promise<readonly [Connection, Connection] | null> {
  const [a, b] = [new End(), new End()]
  a.other = b
  b.other = a
  const pattern = 'IK'
  const to = { pattern, keyPair: here, remotePublicKey: there.publicKey } as const
  const streams = [
    new NoiseSecretStream(true, a, to),
    new NoiseSecretStream(false, b, { pattern, keyPair: there })
  ] as const
  for (const stream of streams) stream.on('error', () => {})
  const [first, second] = streams
  const isOpen = (await first.opened) && (await second.opened)
  if (isOpen) return [first, second]
  for (const stream of streams) stream.destroy()
  return null
}
