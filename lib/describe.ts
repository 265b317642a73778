import { ParcelError } from './errors.js'
import type { JoinReply } from './format/pairing.js'
import type { Home } from './home.js'
import type { Known } from './parcel/history.js'
import type { Parcel } from './parcel/parcel.js'
import type { PeerStatus } from './peer-status.js'
import type { ImagesInfo, ParcelInfo, ParcelState, VersionInfo } from './info.js'
import type { MachineStatus } from './vmm/machine-process.js'

export async function describeVersion(
  parcel: Parcel,
  known: Known,
  home: Home
): Promise<VersionInfo> {
  const { id, version } = known
  const self = home.identity.publicKey.toString('hex')
  const nameOf = (host: string): string => (host === self ? home.name : parcel.hostName(host))
  const author = version.author.toString('hex')
  return {
    id: id.toString('hex'),
    parents: version.parents.map((parent) => parent.toString('hex')),
    author,
    authorName: nameOf(author),
    created: version.created,
    driver: version.driver,
    message: version.message,
    files: version.totals.files,
    bytes: version.totals.bytes,
    stored: version.totals.stored,
    facts: version.facts,
    isHead: parcel.history.isHead(id),
    isHere: await parcel.availability.isHere(known),
    holders: [...parcel.availability.holders(known)].map(nameOf)
  }
}

export async function describeParcel(
  parcel: Parcel,
  around: {
    home: Home
    peers: PeerStatus[]
    machine: MachineStatus | null
    lastWords: string | null
  }
): Promise<ParcelInfo> {
  const { home, peers, machine, lastWords } = around
  const heads = parcel.history.heads()
  const self = home.identity.publicKey.toString('hex')
  const connected = new Set(peers.map(({ host }) => host))
  const [head] = heads
  return {
    name: parcel.name,
    id: parcel.id.toString('hex'),
    driver: parcel.driver,
    path: parcel.folder.path,
    heads: await Promise.all(heads.map((known) => describeVersion(parcel, known, home))),
    versions: parcel.history.size,
    state: stateOf(parcel, machine),
    screen: machine?.screen ?? null,
    lastWords: machine === null ? lastWords : null,
    members: [...parcel.control.members()].map(([id, role]) => ({
      id,
      name: id === self ? home.name : parcel.hostName(id),
      role,
      isConnected: id === self || connected.has(id)
    })),
    peers,
    problems: [...parcel.problems],
    blocks: head === undefined ? { here: 0, total: 0 } : parcel.availability.blocksOf(head),
    images: imagesOf(parcel, machine, connected)
  }
}

function imagesOf(
  parcel: Parcel,
  machine: MachineStatus | null,
  connected: ReadonlySet<string>
): ImagesInfo | null {
  if (machine === null || machine.images === null) return null
  const { dirtyBytes, troubles, used, covered, known } = machine.images
  const workingSet = { used, covered, known }
  const info = { dirtyBytes, workingSet }
  const { stall } = parcel.faults
  const [trouble] = troubles
  if (trouble !== undefined) return { ...info, stall: { why: trouble, from: [], since: 0 } }
  if (stall === null) return { ...info, stall: null }
  const { blocks, since } = stall
  const hosts = [...parcel.trusted()]
  const from = hosts.map(
    (host) => `${parcel.hostName(host)}${connected.has(host) ? '' : ' (not connected)'}`
  )
  const why = `${blocks === 1 ? 'a block' : `${blocks} blocks`} of its disk or memory`
  return { ...info, stall: { why, from, since } }
}

/** What a host that is let in has to know. */
export function joinReply(parcel: Parcel, home: Home): JoinReply {
  const { epoch, epochKey, controlKey } = parcel.keyring.current
  if (epochKey === null) throw new ParcelError('BAD_KEY', 'a vault cannot invite')
  return {
    parcel: parcel.id,
    name: parcel.name,
    driver: parcel.driver,
    inviter: home.identity.publicKey,
    inviterName: home.name,
    epoch,
    epochKey,
    controlKey,
    announcement: parcel.ownAnnouncement()
  }
}

function stateOf(parcel: Parcel, machine: MachineStatus | null): ParcelState {
  if (machine !== null) return 'running'
  if (parcel.folder.path === null) return 'not here'
  return parcel.driver === 'folder' || parcel.folder.base === null ? 'files' : 'suspended'
}
