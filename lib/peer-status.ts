import { BlockList, isIPv6 } from 'node:net'

/** A connected host, as one parcel sees it. */
export interface PeerStatus {
  host: string
  address: string
  /** What the logs go over; `local`: it is a folder that this host serves itself. */
  carrier: 'tcp' | 'udx' | 'local'
  software: string | null
  refusal: string | null
  isCaughtUp: boolean
}

/** The same, and what goes over the connection, of this parcel alone. */
export interface PeerInfo extends PeerStatus {
  /** What it calls itself. */
  name: string
  path: PeerPath
  /** Bytes a second, now. */
  down: number
  up: number
  /** Bytes of blocks since this host was opened. */
  received: number
  sent: number
}

/** `here`: a folder that this host serves itself; `lan`: an address of a network at home. */
export type PeerPath = 'here' | 'lan' | 'direct'

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
export function pathTo({ carrier, address }: Pick<PeerStatus, 'carrier' | 'address'>): PeerPath {
  if (carrier === 'local') return 'here'
  const [plain = ''] = address.split('%')
  return home.check(plain, isIPv6(plain) ? 'ipv6' : 'ipv4') ? 'lan' : 'direct'
}
