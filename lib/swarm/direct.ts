import { isIPv6, type Socket } from 'node:net'
import type NoiseSecretStream from '@hyperswarm/secret-stream'
import { LAN_NONCE_BYTES, type LanRecord } from '../format/lan.js'
import { randomBytes, type KeyPair } from '../keys/identity.js'
import { knockToken, lanTag, pairSecret } from '../keys/pair.js'
import type { Address, Addresses } from './addresses.js'
import { Lan, ownAddresses, ownNetworks } from './lan.js'
import type { Expected, TcpCarrier } from './tcp.js'

/** How often it is looked who is missing, ms. */
const LOOK = 1_000
/** A timer that is so late has slept with the machine, ms. */
const SLEPT = 4_000
/** Tries come so often at first, then less, ms: after so many tries. */
const PAUSES = [
  { until: 30, ms: 2_000 },
  { until: 200, ms: 4_000 },
  { until: Infinity, ms: 15_000 }
] as const
/** Who has the greater key leaves it to the other for so long, ms. */
const POLITE = 1_500
/** A dial may take so long, ms. */
const PATIENCE = 3_000
/** Addresses of one host that are tried, and that are known from its network. */
const MOST = 4

/** How a host is reached now: `direct`: over the internet; `not`: also when nothing was heard for a while. */
export type Reached = 'well' | 'direct' | 'relayed' | 'not'

interface Parts {
  keyPair: KeyPair
  tcp: TcpCarrier
  addresses: Addresses
  /** Nothing but this machine is to be heard. */
  isLoopback: boolean
  /** Hosts, in hex, that may connect. */
  trusted: () => ReadonlySet<string>
  reached: (host: string) => Reached
  /** There is a connection with a host. */
  onConnection: (stream: NoiseSecretStream) => void
  /** The machine is on another network, or was asleep. */
  onChange: (addresses: ReadonlySet<string>) => void
  /** Looks for a host, in hex, in other ways too, now. */
  seek: (host: string) => void
}

interface Sought {
  /** From its own words on a network that both are in. */
  heard: Address[]
  tries: number
  /** By `performance.now`. */
  next: number
  isDialing: boolean
}

/**
 * Connections with trusted hosts that need nobody else: by TCP, at addresses that they say on the network
 * that both are in, or were reached at before. Looks for them again when they are not heard any more.
 */
export class Direct {
  readonly #parts: Parts
  readonly #nonce = randomBytes(LAN_NONCE_BYTES)
  readonly #lan: Lan | null
  readonly #sought = new Map<string, Sought>()
  readonly #secrets = new Map<string, Buffer | null>()
  readonly #end = new AbortController()
  readonly #timer: NodeJS.Timeout
  #networks = ownAddresses().join()
  #near = ownNetworks()
  #looked = performance.now()

  constructor(parts: Parts) {
    this.#parts = parts
    parts.tcp.recognise = (token) => this.#recognise(token)
    this.#lan = parts.isLoopback
      ? null
      : new Lan({
          record: () => this.#record(),
          onRecord: (record, address) => this.#hear(record, address)
        })
    this.#timer = setInterval(() => this.#look(), LOOK).unref()
  }

  close(): void {
    this.#end.abort()
    clearInterval(this.#timer)
    this.#lan?.close()
  }

  /** Whether an address is of a network that this machine is in. */
  isNear(address: string): boolean {
    return address !== '' && this.#near.check(address, isIPv6(address) ? 'ipv6' : 'ipv4')
  }

  /** A host, in hex, is reached no more: it is looked for at once. */
  lost(host: string): void {
    const sought = this.#of(host)
    sought.tries = 0
    sought.next = performance.now() + (this.#isFirst(host) ? 0 : POLITE)
  }

  #of(host: string): Sought {
    const known = this.#sought.get(host)
    if (known !== undefined) return known
    const next = performance.now() + (this.#isFirst(host) ? 0 : POLITE)
    const made = { heard: [], tries: 0, next, isDialing: false }
    this.#sought.set(host, made)
    return made
  }

  /** Whether this host dials before the other one does. */
  #isFirst(host: string): boolean {
    return this.#parts.keyPair.publicKey.toString('hex') < host
  }

  #look(): void {
    const now = performance.now()
    const networks = ownAddresses().join()
    const hasSlept = now - this.#looked > LOOK + SLEPT
    this.#looked = now
    const { trusted, reached, onChange, seek } = this.#parts
    if (networks !== this.#networks || hasSlept) {
      this.#networks = networks
      this.#near = ownNetworks()
      onChange(new Set(ownAddresses()))
      this.#lan?.look()
      for (const host of trusted()) this.lost(host)
    }
    const hosts = trusted()
    if ([...hosts].some((host) => !this.#sought.has(host))) this.#lan?.look()
    for (const host of this.#sought.keys()) if (!hosts.has(host)) this.#sought.delete(host)
    for (const host of hosts) {
      const how = reached(host)
      const sought = this.#of(host)
      if (how === 'well') {
        sought.tries = 0
        continue
      }
      if (sought.next > now || sought.isDialing) continue
      const pause = PAUSES.find(({ until }) => sought.tries < until) ?? PAUSES[0]
      sought.tries++
      sought.next = now + pause.ms
      void this.#dial(host, sought)
      if (how === 'not') seek(host)
    }
  }

  async #dial(host: string, sought: Sought): Promise<void> {
    const { tcp, keyPair, addresses, reached, onConnection } = this.#parts
    // An address that it was reached at over the internet is no better than what there is.
    const known = reached(host) === 'direct' ? [] : addresses.of(host)
    const all = [...sought.heard, ...known].slice(0, MOST)
    const secret = this.#secret(host)
    if (all.length === 0 || secret === null) return
    sought.isDialing = true
    const token = knockToken(secret, keyPair.publicKey)
    const stop = new AbortController()
    const abort = (): void => stop.abort()
    this.#end.signal.addEventListener('abort', abort, { once: true })
    const timer = setTimeout(abort, PATIENCE)
    const to = { token, host: Buffer.from(host, 'hex') }
    for await (const { socket, address } of connected(tcp, all, stop.signal)) {
      const stream = await tcp.greet(socket, to)
      if (stream === null) continue
      addresses.add(host, address)
      onConnection(stream)
      break
    }
    clearTimeout(timer)
    this.#end.signal.removeEventListener('abort', abort)
    sought.isDialing = false
  }

  #secret(host: string): Buffer | null {
    const known = this.#secrets.get(host)
    if (known !== undefined) return known
    const secret = pairSecret(this.#parts.keyPair, Buffer.from(host, 'hex'))
    this.#secrets.set(host, secret)
    return secret
  }

  #recognise(token: Buffer): Expected | null {
    for (const name of this.#parts.trusted()) {
      const host = Buffer.from(name, 'hex')
      const secret = this.#secret(name)
      if (secret === null || !knockToken(secret, host).equals(token)) continue
      return { host, onStream: (stream) => this.#parts.onConnection(stream) }
    }
    return null
  }

  #record(): LanRecord {
    const tags = [...this.#parts.trusted()].flatMap((host) => {
      const secret = this.#secret(host)
      return secret === null ? [] : [lanTag(secret, this.#nonce, this.#parts.keyPair.publicKey)]
    })
    return { port: this.#parts.tcp.port, nonce: this.#nonce, tags }
  }

  /** Somebody says where it is, perhaps to us. */
  #hear({ port, nonce, tags }: LanRecord, address: string): void {
    if (nonce.equals(this.#nonce) || port === 0) return
    for (const name of this.#parts.trusted()) {
      const secret = this.#secret(name)
      if (secret === null) continue
      const tag = lanTag(secret, nonce, Buffer.from(name, 'hex'))
      if (!tags.some((each) => each.equals(tag))) continue
      const sought = this.#of(name)
      const [first] = sought.heard
      if (first?.address === address && first.port === port) return
      const others = sought.heard.filter((each) => each.address !== address && each.port === port)
      sought.heard = [{ address, port }, ...others].slice(0, MOST)
      this.lost(name)
      return
    }
  }
}

/** Sockets to addresses, the fastest first. With the first that is taken the others end. */
async function* connected(
  tcp: TcpCarrier,
  addresses: readonly Address[],
  signal: AbortSignal
): AsyncGenerator<{ socket: Socket; address: Address }> {
  const names = new Map(addresses.map((each) => [`${each.address} ${each.port}`, each]))
  const under = new Map(
    [...names.values()].map((address) => [
      address,
      tcp.connect(address, signal).then((socket) => ({ socket, address }))
    ])
  )
  try {
    while (under.size > 0) {
      const { socket, address } = await Promise.race(under.values())
      under.delete(address)
      if (socket !== null) yield { socket, address }
    }
  } finally {
    for (const each of under.values()) void each.then(({ socket }) => socket?.destroy())
  }
}
