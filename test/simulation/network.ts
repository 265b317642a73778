import NoiseSecretStream from '@hyperswarm/secret-stream'
import type { Connection } from 'hyperswarm'
import { Duplex } from 'node:stream'
import type { Parcel } from '../../lib/parcel/parcel.js'
import { ParcelChannel } from '../../lib/swarm/channel.js'
import type { SimulatedHost } from './host.js'

/** One end of a wire in memory. What is written while it is held comes later, or never. */
class End extends Duplex {
  other: End | null = null
  isHeld = false
  readonly #held: (() => void)[] = []
  #taken: (() => void) | null = null

  release(): void {
    this.isHeld = false
    for (const each of this.#held.splice(0)) each()
  }

  override _write(bytes: Buffer, _: string, done: () => void): void {
    const deliver = (): void => {
      setImmediate(() => {
        const { other } = this
        if (other === null || other.destroyed || other.push(bytes)) done()
        else other.#taken = done
      })
    }
    if (this.isHeld) this.#held.push(deliver)
    else deliver()
  }

  override _read(): void {
    const done = this.#taken
    this.#taken = null
    done?.()
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    this.#taken?.()
    this.release()
    setImmediate(() => this.other?.destroy())
    done(error)
  }
}

interface Wire {
  hosts: readonly [SimulatedHost, SimulatedHost]
  /** As they ran then: a host that was off meanwhile has no connection of before. */
  parcels: readonly [Parcel, Parcel]
  ends: readonly [End, End]
  streams: readonly Connection[]
  channels: ParcelChannel[]
}

/** Wires between hosts of one process, which come apart, or carry bytes one way alone. */
export class Network {
  readonly #wires = new Map<string, Wire>()
  /** In which part of a network that has come apart a host is. */
  readonly parts = new Map<SimulatedHost, number>()
  /** Ways, from one host to another, that nothing comes over. */
  readonly #blocked = new Set<string>()

  /** From now on nothing comes from one host to another, and no new connection is made. */
  block(from: SimulatedHost, to: SimulatedHost): void {
    this.#blocked.add(`${from.name}>${to.name}`)
    const wire = this.#wires.get(wireName(from, to))
    const end = wire?.ends[wire.hosts[0] === from ? 0 : 1]
    if (end !== undefined) end.isHeld = true
  }

  /** All ways are open, and all hosts in one part; what was held comes. */
  heal(): void {
    this.#blocked.clear()
    this.parts.clear()
    for (const { ends } of this.#wires.values()) for (const end of ends) end.release()
  }

  /** Ends the connection of two hosts, which may come again. */
  cut(a: SimulatedHost, b: SimulatedHost): void {
    this.#end(wireName(a, b))
  }

  /** Ends what is no more, and connects who can be reached, is up, and trusts each other. */
  async update(hosts: readonly SimulatedHost[]): Promise<void> {
    for (const [name, { hosts: ends, parcels, streams }] of this.#wires) {
      const isSame = ends.every((host, n) => host.isUp && host.parcel === parcels[n])
      const isEnded = streams.some(({ destroyed }) => destroyed)
      if (!isSame || isEnded || !this.#isOpen(...ends)) this.#end(name)
    }
    for (const [n, a] of hosts.entries()) {
      for (const b of hosts.slice(n + 1)) {
        const isWay = this.#isOpen(a, b) && !this.#isBlocked(a, b) && !this.#isBlocked(b, a)
        if (isWay && !this.#wires.has(wireName(a, b))) await this.#connect(a, b)
      }
    }
  }

  #isBlocked(from: SimulatedHost, to: SimulatedHost): boolean {
    return this.#blocked.has(`${from.name}>${to.name}`)
  }

  #isOpen(a: SimulatedHost, b: SimulatedHost): boolean {
    if ((this.parts.get(a) ?? 0) !== (this.parts.get(b) ?? 0)) return false
    return a.trusts(b) && b.trusts(a)
  }

  async #connect(a: SimulatedHost, b: SimulatedHost): Promise<void> {
    const ends = [new End(), new End()] as const
    ends[0].other = ends[1]
    ends[1].other = ends[0]
    const pattern = 'IK'
    const [here, there] = [a.identity.keyPair, b.identity.keyPair]
    const streams = [
      new NoiseSecretStream(true, ends[0], {
        pattern,
        keyPair: here,
        remotePublicKey: there.publicKey
      }),
      new NoiseSecretStream(false, ends[1], { pattern, keyPair: there })
    ] as const
    for (const stream of streams) stream.on('error', () => {})
    if (!(await streams[0].opened) || !(await streams[1].opened)) {
      for (const stream of streams) stream.destroy()
      return
    }
    if (!a.isUp || !b.isUp) return
    const wire: Wire = {
      hosts: [a, b],
      parcels: [a.parcel, b.parcel],
      ends,
      streams,
      channels: []
    }
    this.#wires.set(wireName(a, b), wire)
    for (const [host, connection] of [
      [a, streams[0]],
      [b, streams[1]]
    ] as const) {
      const way = {
        host: connection.remotePublicKey.toString('hex'),
        connection,
        carrier: connection,
        onChange: () => () => {}
      }
      const channel = ParcelChannel.open(host.parcel, way, () => {
        if (host.channels.get(way.host) === channel) host.channels.delete(way.host)
      })
      if (channel === null) continue
      host.channels.set(way.host, channel)
      wire.channels.push(channel)
    }
  }

  #end(name: string): void {
    const wire = this.#wires.get(name)
    this.#wires.delete(name)
    for (const channel of wire?.channels ?? []) channel.stop()
    for (const stream of wire?.streams ?? []) stream.destroy()
    if (wire === undefined) return
    const [a, b] = wire.hosts
    for (const [host, other] of [
      [a, b],
      [b, a]
    ] as const) {
      const channel = host.channels.get(other.id)
      if (channel !== undefined && wire.channels.includes(channel)) host.channels.delete(other.id)
    }
  }
}

function wireName(a: SimulatedHost, b: SimulatedHost): string {
  return [a.name, b.name].toSorted().join(' ')
}
