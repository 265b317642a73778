import { BlockList } from 'node:net'
import { networkInterfaces, type NetworkInterfaceInfo } from 'node:os'
import multicastDns, { type MulticastDNS, type ResponsePacket } from 'multicast-dns'
import { decodeLanRecord, encodeLanRecord, MAX_LAN_TAGS, type LanRecord } from '../format/lan.js'

const SERVICE = '_hyperparcel._tcp.local'
/** It is said so soon after the start or a change of the network, and then so often, ms. */
const [FIRST, EVERY] = [[0, 1_000, 3_000], 30_000] as const
/** Who asks is answered, at most so often, ms. */
const ANSWERS = 1_000
/** Seconds that others may keep it. */
const TTL = 120

interface Parts {
  /** What this host says of itself. */
  record: () => LanRecord
  /** Somebody says so at an address. */
  onRecord: (record: LanRecord, address: string) => void
}

/**
 * Says on every network that this machine is in where this host listens, and hears where others do
 * (multicast DNS, RFC 6762). A record names nobody: it means something to hosts that trust the announcer.
 */
export class Lan {
  readonly #parts: Parts
  readonly #sockets = new Map<string, MulticastDNS>()
  #timers: NodeJS.Timeout[] = []
  #answered = -Infinity

  constructor(parts: Parts) {
    this.#parts = parts
    this.look()
  }

  /** Looks anew which networks there are, and says so there. */
  look(): void {
    const addresses = new Set(ownAddresses('IPv4'))
    for (const [address, socket] of this.#sockets) {
      if (addresses.has(address)) continue
      this.#sockets.delete(address)
      socket.destroy()
    }
    for (const address of addresses) {
      if (!this.#sockets.has(address)) this.#sockets.set(address, this.#open(address))
    }
    for (const timer of this.#timers) clearTimeout(timer)
    this.#timers = FIRST.map((ms) => setTimeout(() => this.#say({ isAsking: true }), ms).unref())
    this.#timers.push(setInterval(() => this.#say(), EVERY).unref())
  }

  close(): void {
    for (const timer of this.#timers) clearTimeout(timer)
    for (const socket of this.#sockets.values()) socket.destroy()
    this.#sockets.clear()
  }

  #open(address: string): MulticastDNS {
    // To all addresses, or Linux delivers no multicast to it.
    const socket = multicastDns({ interface: address, bind: '0.0.0.0' })
    // Where nothing can be said or heard, others are found in other ways.
    socket.on('error', () => {})
    socket.on('warning', () => {})
    socket.on('query', ({ questions = [] }) => {
      const isAsked = questions.some(({ name }) => name === SERVICE)
      if (!isAsked || performance.now() - this.#answered < ANSWERS) return
      this.#answered = performance.now()
      this.#say()
    })
    socket.on('response', (packet, { address }) => this.#hear(packet, address))
    return socket
  }

  #say({ isAsking = false } = {}): void {
    const record = this.#parts.record()
    if (record.port === 0) return
    const name = `${record.nonce.toString('hex')}.${SERVICE}`
    const target = `${record.nonce.toString('hex')}.local`
    // With more hosts than fit into one, several are said.
    for (let at = 0; at === 0 || at < record.tags.length; at += MAX_LAN_TAGS) {
      const tags = record.tags.slice(at, at + MAX_LAN_TAGS)
      const data = encodeLanRecord({ ...record, tags }).toString('base64')
      const answers: ResponsePacket['answers'] = [
        { name: SERVICE, type: 'PTR', ttl: TTL, data: name },
        { name, type: 'SRV', ttl: TTL, data: { port: record.port, target } },
        { name, type: 'TXT', ttl: TTL, data: data.match(/.{1,250}/g) ?? [] }
      ]
      for (const socket of this.#sockets.values()) socket.respond({ answers })
    }
    if (!isAsking) return
    for (const socket of this.#sockets.values()) {
      socket.query({ questions: [{ name: SERVICE, type: 'PTR' }] })
    }
  }

  #hear({ answers = [] }: ResponsePacket, address: string): void {
    for (const answer of answers) {
      if (answer.type !== 'TXT' || !answer.name.endsWith(`.${SERVICE}`)) continue
      const parts = Array.isArray(answer.data) ? answer.data : [answer.data]
      try {
        const text = parts.map((part) => part.toString()).join('')
        this.#parts.onRecord(decodeLanRecord(Buffer.from(text, 'base64')), address)
      } catch {
        // Anybody on the network can say anything.
      }
    }
  }
}

/** Addresses of this machine but for loopback. */
export function ownAddresses(family?: NetworkInterfaceInfo['family']): string[] {
  return Object.values(networkInterfaces())
    .flatMap((each) => each ?? [])
    .filter((each) => !each.internal && (family === undefined || each.family === family))
    .map(({ address }) => address)
}

/** The networks that this machine is in, with loopback. */
export function ownNetworks(): BlockList {
  const networks = new BlockList()
  for (const { address, cidr, family } of Object.values(networkInterfaces()).flatMap(
    (each) => each ?? []
  )) {
    const bits = Number(cidr?.split('/')[1])
    if (Number.isInteger(bits)) {
      networks.addSubnet(address.split('%')[0] ?? '', bits, family === 'IPv6' ? 'ipv6' : 'ipv4')
    }
  }
  return networks
}
