import { BlockList, isIPv6 } from 'node:net'

/** A connected host, as one parcel sees it. */
export interface PeerStatus {
  host: string
  address: string
  /** What the logs go over; `local`: it is a folder that this host serves itself. */
  carrier: 'tcp' | 'udx' | 'local'
  /** The host that carries what goes between, in hex; null: none does. */
  relay: string | null
  software: string | null
  refusal: string | null
  isCaughtUp: boolean
}

/** The same, and what goes over the connection, of this parcel alone. */
export interface PeerInfo extends PeerStatus {
  /** What it calls itself. */
  name: string
  path: PeerPath
  /** What the host that relays calls itself; null: none does. */
  relayName: string | null
  /** Bytes a second, now. */
  down: number
  up: number
  /** Bytes of blocks since this host was opened. */
  received: number
  sent: number
}

/**
 * `here`: a folder that this host serves itself; `lan`: an address of a network at home; `relayed`: by way of
 * a host that both reach.
 */
export type PeerPath = 'here' | 'lan' | 'direct' | 'relayed'

const home = new BlockList()
for (const [network, bits, family] of [
  ['10.0.0.0', 8, 'ipv4'],
  ['172.16.0.0', 12, 'ipv4'],
  ['192.168.0.0', 16, 'ipv4'],
  ['169.254.0.0', 16, 'ipv4'],
  ['127.0.0.0', 8, 'ipv4'],
  ['fc00::', 7, 'ipv6'],
  ['fe80::', 10, 'ipv6'],
  ['::1', 128, 'ipv6']
] as const) {
  home.addSubnet(network, bits, family)
}

/** Over what kind of network a peer is reached, by its address. */
export function pathTo({
  carrier,
  relay,
  address
}: Pick<PeerStatus, 'carrier' | 'relay' | 'address'>): PeerPath {
  if (carrier === 'local') return 'here'
  if (relay !== null) return 'relayed'
  const [plain = ''] = address.split('%')
  return home.check(plain, isIPv6(plain) ? 'ipv6' : 'ipv4') ? 'lan' : 'direct'
}
