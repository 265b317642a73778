import { ParcelError } from '../errors.js'
import type { MemberRole } from '../format/control-record.js'
import type { JoinReply } from '../format/pairing.js'
import { leftOutOf } from '../format/version.js'
import { obstacles } from './host-facts.js'
import type { Home } from '../home.js'
import { branchName, type Known } from '../parcel/history.js'
import type { Parcel } from '../parcel/parcel.js'
import type { PeerInfo } from '../peer-status.js'
import type {
  ImagesInfo,
  LeaseInfo,
  MemberInfo,
  ParcelInfo,
  ParcelState,
  VersionInfo
} from '../info.js'
import type { MachineStatus } from '../vmm/machine-process.js'
import { stallOf } from './stall.js'

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
    leftOut: leftOutOf(version),
    stored: version.totals.stored,
    facts: version.facts,
    isHead: parcel.history.isHead(id),
    branch: branchName(version),
    tags: [...parcel.history.tags.of(id)],
    isHere: await parcel.availability.isHere(known),
    isLapsed: parcel.history.isHead(id) && parcel.history.isLapsed(known),
    isForgotten: parcel.space.isForgotten(known),
    holders: [...parcel.availability.holders(known)].map(nameOf)
  }
}

export async function describeParcel(
  parcel: Parcel,
  around: {
    home: Home
    peers: PeerInfo[]
    machine: MachineStatus | null
    lastWords: string | null
    suspendAsked: ParcelInfo['suspendAsked']
    isPaused: boolean
  }
): Promise<ParcelInfo> {
  const { home, peers, machine, lastWords, suspendAsked, isPaused } = around
  const heads = parcel.history.heads()
  const self = home.identity.publicKey.toString('hex')
  const connected = new Set(peers.map(({ host }) => host))
  const nameOf = (id: string): string => (id === self ? home.name : parcel.hostName(id))
  const [head] = heads
  return {
    name: parcel.name,
    id: parcel.id.toString('hex'),
    driver: parcel.driver,
    path: parcel.folder.path,
    heads: await Promise.all(heads.map((known) => describeVersion(parcel, known, home))),
    isInConflict: parcel.history.isInConflict,
    versions: parcel.history.size,
    state: stateOf(parcel, machine),
    screen: machine?.screen ?? null,
    lastWords: machine === null ? lastWords : null,
    suspendAsked,
    isPaused,
    checkpoints: parcel.settings.checkpoints,
    role: parcel.role,
    epoch: parcel.control.members.epoch?.number ?? 0,
    members: [...parcel.control.members.roles].map(([id, role]) => ({
      id,
      name: nameOf(id),
      role,
      isConnected: id === self || connected.has(id),
      lastSeen: parcel.peers.lastSeen(id),
      runningSince: parcel.runningSince(id),
      incarnations: parcel.control.incarnations().filter(({ host }) => host.toString('hex') === id)
        .length,
      ...factsIn(parcel, id, head)
    })),
    revoked: [...parcel.control.members.revoked].map(([id, { by, created, role }]) => ({
      id,
      name: nameOf(id),
      role,
      by: nameOf(by),
      since: created
    })),
    peers,
    problems: [...parcel.problems],
    rollbacks: [...parcel.rollbacks],
    copies: parcel.settings.copies,
    lease: leaseInfo(parcel),
    ...parcel.settings.strictness,
    blocks: blocksOf(parcel, head),
    missing: parcel.availability.missing(),
    images: imagesOf(parcel, machine, connected)
  }
}

function blocksOf(parcel: Parcel, head: Known | undefined): ParcelInfo['blocks'] {
  if (parcel.role === 'vault') return parcel.availability.kept()
  return head === undefined ? { here: 0, total: 0 } : parcel.availability.blocksOf(head)
}

function factsIn(
  parcel: Parcel,
  host: string,
  head: Known | undefined
): Pick<MemberInfo, 'facts' | 'was' | 'obstacles'> {
  const said = parcel.factsOf(host)
  if (said === null) return { facts: null, was: {}, obstacles: null }
  const { facts, was } = said
  return { facts, was, obstacles: head === undefined ? null : obstacles(head.version.facts, facts) }
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
  const [trouble] = troubles
  if (trouble !== undefined) return { ...info, stall: { why: trouble, from: [], since: 0 } }
  return { ...info, stall: stallOf(parcel, connected) }
}

/** What a host that is let in has to know. */
export function joinReply(parcel: Parcel, home: Home, role: MemberRole): JoinReply {
  const { epoch, record, epochKey, controlKey } = parcel.keyring.current
  if (epochKey === null) throw new ParcelError('BAD_KEY', 'a vault cannot invite')
  const keys = { role, epoch, record, controlKey, announcements: parcel.peers.introductions() }
  const common = { ...keys, parcel: parcel.id, inviter: home.identity.publicKey }
  if (role === 'vault') {
    // It is told no name, and nothing of what it keeps.
    const name = `vault-${parcel.id.toString('hex', 0, 4)}`
    return { ...common, epochKey: null, name, driver: 'folder', inviterName: '' }
  }
  const { name, driver } = parcel
  return { ...common, epochKey, name, driver, inviterName: home.name }
}

function stateOf(parcel: Parcel, machine: MachineStatus | null): ParcelState {
  if (machine !== null) return 'running'
  if (parcel.folder.path === null) return 'not here'
  if (parcel.driver === 'folder' || parcel.folder.base === null) return 'files'
  return parcel.folder.isStarted ? 'off' : 'suspended'
}

/** Who has the lease; null: nobody needs one. */
export function leaseInfo(parcel: Parcel): LeaseInfo | null {
  const { lease, isHere } = parcel.leases
  if (lease?.holder === null || lease === null) return null
  const { number, holder, origin, heads } = lease
  return {
    number,
    holder,
    holderName: parcel.hostName(holder),
    isHere,
    origin,
    heads: heads.map((id) => id.toString('hex'))
  }
}

/** Members of a parcel, and what they call themselves. */
export function namesOfMembers(parcel: Parcel): { id: string; name: string }[] {
  return [...parcel.control.members.roles.keys()].map((id) => ({
    id,
    name: parcel.hostName(id)
  }))
}
