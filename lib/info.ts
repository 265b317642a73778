import type { CheckpointPolicy, Consistency, Policy, Scan } from './choices.js'
import type { ImageSpec } from './export/image-process.js'
import type { MemberRole } from './format/control-record.js'
import type { LeaseOrigin } from './parcel/members/leases.js'
import type { DirtyMap } from './parcel/commit/scan.js'
import type { Skipped } from './parcel/commit/walk.js'
import type { PeerInfo } from './peer-status.js'

/** Where an image server finds a version, and keeps what is written to it. */
export type ImagePlace = Pick<ImageSpec, 'items' | 'overlays'> & { version: string }

/** A version, as people and programs are shown it. Sizes in bytes, times in ms since 1970. */
export interface VersionInfo {
  id: string
  parents: string[]
  author: string
  authorName: string
  created: number
  driver: string
  message: string
  files: number
  bytes: number
  /** Things in the folder that could not be stored, so the version lacks them. */
  leftOut: number
  /** Bytes that this version added to its author's log. */
  stored: number
  facts: Record<string, string>
  isHead: boolean
  /** The branch that it is on; '' is the one without a name. */
  branch: string
  tags: string[]
  /** Whether all of it is on this host. */
  isHere: boolean
  /** Whether it was made by who did not have the lease, and nobody has settled it. */
  isLapsed: boolean
  /** Whether it need not be here: the next prune lets it go. */
  isForgotten: boolean
  /** Names of the hosts that hold all of it durably. */
  holders: string[]
}

/** What a version holds at a path. */
export interface FileInfo {
  path: string
  fileType: 'file' | 'folder' | 'symlink'
  size: number
  mode: number
  mtime: number
}

/** What was found by a look at the blocks on this host. */
export interface VerifyResult {
  /** Blocks that were read, and their bytes. */
  blocks: number
  bytes: number
  /** Damaged ones that came again from other hosts. */
  repaired: number
  /** Damaged ones that nobody has sent, and how many of them were records instead of contents. */
  lost: number
  lostRecords: number
  /** Whole ones of which what proves them is damaged: only a new store helps. */
  unproved: number
}

/** How blocks are read in the background. */
export interface ScrubInfo {
  /** Bytes a day. */
  quota: number
  /** When all was read last, ms since 1970; null: never. */
  done: number | null
  /** Blocks that were damaged so far. */
  damaged: number
}

/** What of a version cannot be read any more. */
export interface LossInfo {
  parcel: string
  version: string
  /** null: its list of files cannot be read to its end. */
  path: string | null
  ranges: [offset: number, length: number][]
}

/** A host that belongs to a parcel. */
export interface MemberInfo {
  id: string
  name: string
  role: MemberRole
  isConnected: boolean
  /** When it said last what its newest versions are, ms since 1970; null: never, or it is this host. */
  lastSeen: number | null
  /** Since when its machine runs, as it says, ms since 1970; null: it does not. */
  runningSince: number | null
  /** Sets of logs that it writes or wrote: more than one after its store was put back, or when it is two. */
  incarnations: number
  /** What it says of itself, signed; null: nothing yet. */
  facts: Readonly<Record<string, string>> | null
  /** Those that were different when it said so before: what they were. */
  was: Readonly<Record<string, string>>
  /** Why it could not resume the newest version; empty: it could; null: nobody knows. */
  obstacles: string[] | null
}

/** `off`: its machine ran since the folder's version was made, and does not any more. */
export type ParcelState = 'running' | 'suspended' | 'off' | 'files' | 'not here'

export interface ParcelInfo {
  name: string
  id: string
  driver: string
  path: string | null
  heads: VersionInfo[]
  /** Whether two hosts went on from one version, and nobody has settled it. */
  isInConflict: boolean
  versions: number
  /** 'running': its machine runs here. 'not here': this host has no folder of it. */
  state: ParcelState
  screen: string | null
  /** Why its machine ended by itself, if it did. */
  lastWords: string | null
  /** When a version is made of it by itself while it runs here. */
  checkpoints: CheckpointPolicy
  /** Who has asked that it is suspended here, and ms until then; null: nobody. */
  suspendAsked: { host: string; left: number } | null
  /** What this host may do; null before that is known, or when it is no member any more. */
  role: MemberRole | null
  /** Number of the key epoch. */
  epoch: number
  members: MemberInfo[]
  /** Who was a member and is no more, what it was, who ended that, and when. */
  revoked: { id: string; name: string; role: MemberRole; by: string; since: number }[]
  peers: PeerInfo[]
  /** What is still to come here of all logs: blocks, and about how many bytes. */
  missing: { blocks: number; bytes: number }
  /** Whether the user lets nothing of it come that is not asked for. */
  isPaused: boolean
  problems: string[]
  /** When, in ms since 1970, and why this host went on in new logs, until its user has seen it. */
  rollbacks: { at: number; why: string }[]
  consistency: Consistency
  /** null: nobody needs one. */
  lease: LeaseInfo | null
  /** With `latest`: hosts that were heard in so many days are waited for. */
  days: number
  /** So many other hosts are to have a version before this one can be without. */
  copies: number
  /** Blocks of the newest version that are here, of how many; on a vault those of all logs. */
  blocks: { here: number; total: number }
  /** Of a machine that runs before all of it is here. */
  images: ImagesInfo | null
}

/** What is served to a running machine. */
export interface ImagesInfo {
  /** Bytes that were written and are in no version. */
  dirtyBytes: number
  /** Pages of 4 KiB that it read until it had settled; of them, those that its version had foretold; and all of those. */
  workingSet: { used: number; covered: number; known: number }
  /** Why the machine waits, for whom, and since when in ms; null when it does not. */
  stall: { why: string; from: string[]; since: number } | null
}

/** A folder that keeps what it cannot read, on a disk that comes and goes. */
export interface VaultInfo {
  path: string
  /** Key of the host that it is; null while it is not open. */
  id: string | null
  /** 'closed': its disk can be taken away. 'away': it is not there, or does not open. */
  state: 'open' | 'closed' | 'away'
  /** Names here of the parcels that it keeps. */
  parcels: string[]
  /** Hosts, by their names here, to which it carries what they lack; none: it keeps all. */
  carriesTo: string[]
  /** Blocks of this host's that it has, of how many. */
  done: number
  total: number
  /** Bytes of its store on the disk, and how many it may have; null: as many as there are. */
  used: number
  limit: number | null
  /** Why it does not open. */
  problem: string | null
}

/** Who wants to be let in: its key in hex, what it calls itself, and its key in words. */
export interface Newcomer {
  id: string
  name: string
  words: string
}

export interface InviteOptions {
  /** How long it is good, ms. */
  ttl?: number
  /** What the newcomer may do; default `runner`. */
  role?: MemberRole
  /** Asked before the newcomer, which knows the invite's secret, is let in. */
  approve?: (newcomer: Newcomer) => Promise<boolean>
}

/** The same invite as a link and as a short code, and until when it is good, in ms since 1970. */
export interface OpenInvite {
  invite: string
  code: string
  expires: number
}

export interface SuspendOptions {
  message?: string
  compress?: boolean
  /**
   * `mtime` (default): files whose size, times and inode are as they were at the folder's version
   * are not read, guest memory always is; `full`: everything is read, whatever `dirty` says.
   */
  scan?: Scan
  /**
   * For whoever keeps count: all that was written to a file since the folder's version, by its path
   * in the folder, as [offset, length] in bytes in any order. The rest of the file is not read.
   */
  dirty?: DirtyMap
  /** No other host is waited for: fails with UNREACHABLE where one is needed. */
  offline?: boolean
}

/** How many of the newest versions of each branch are kept, of how many days and weeks the last one, and which tags. */
export interface RetentionPolicy {
  last: number
  daily: number
  weekly: number
  /** `*` in them is any text, `?` any character. */
  tags: string[]
}

export interface ForgetResult {
  /** Versions that need not be on this host any more. */
  forgotten: VersionInfo[]
  /** How many stay. */
  kept: number
}

export interface PruneResult {
  /** Versions that were here and are not any more, by id. */
  versions: string[]
  /** How many may go, but their space is not worth copying what they share their logs with. */
  waiting: number
  /** Bytes of chunks that were copied to where they can stay. */
  moved: number
}

/** Who may run the machine of a parcel. */
export interface LeaseInfo {
  /** Counts up. */
  number: number
  holder: string
  holderName: string
  /** Whether it is this host. */
  isHere: boolean
  origin: LeaseOrigin
  /** What its holder goes on from: a version of each branch. */
  heads: string[]
}

export interface SuspendResult {
  version: VersionInfo
  /** What is in the folder but could not be stored. */
  skipped: Skipped[]
  /** Blocks that had to come from other hosts: pages of trees of a machine that is partly here. */
  fetched: number
  /** So long a machine that goes on stood still, ms. */
  paused: number | null
}

export interface ResumeOptions {
  /** Default `demand`. A folder is always written whole. */
  policy?: Policy
  /** false: nothing of disk and memory is fetched that is not read. */
  prefetch?: boolean
  /** Files and folders where chunks are looked for before the network; remembered. */
  lookaside?: string[]
  /** Beginning of a version's id; default the head. */
  version?: string
  /** The folder to write; default where the parcel is on this host, else `./NAME`. */
  to?: string
  /** Overwrite what was not suspended. */
  force?: boolean
  /** false: only write the files, do not start the machine. */
  start?: boolean
  /** Folder in which a parcel that is nowhere on this host yet gets its own, named like it. */
  cwd?: string
  /** How long to wait for hosts that do not answer, ms. */
  timeout?: number
  /** No other host is asked or waited for: all of the version must be here. */
  offline?: boolean
}

export interface ResumeResult {
  version: VersionInfo
  /** What was done, which may be less than was asked for: notes say why. */
  policy: Policy
  /** Blocks of the version that are here, of how many, when the machine ran. */
  blocks: { here: number; total: number }
  path: string
  isRunning: boolean
  screen: string | null
  /** Hosts that said what their newest version is, and those that did not. */
  heard: string[]
  silent: string[]
  /** When those were heard last, by name, in ms since 1970; who is not in it never was. */
  lastSeen: Readonly<Record<string, number>>
}

/** Where a parcel is wanted next, from what hosts did before. */
export interface PredictionInfo {
  /** Hosts, in hex, the likeliest first; `chance` from 0 to 1. */
  next: { host: string; name: string; chance: number }[]
  /** Hand-offs that are known; how many of them could have been foretold from earlier ones, and were. */
  known: number
  tried: number
  right: number
}
