import type { PeerStatus } from './peer-status.js'

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
  /** Bytes that this version added to its author's log. */
  stored: number
  facts: Record<string, string>
  isHead: boolean
  /** Whether all of it is on this host. */
  isHere: boolean
  /** Names of the hosts that hold all of it durably. */
  holders: string[]
}

export type ParcelState = 'running' | 'suspended' | 'files' | 'not here'

export interface ParcelInfo {
  name: string
  id: string
  driver: string
  path: string | null
  heads: VersionInfo[]
  versions: number
  /** 'running': its machine runs here. 'not here': this host has no folder of it. */
  state: ParcelState
  screen: string | null
  /** Why its machine ended by itself, if it did. */
  lastWords: string | null
  members: { id: string; name: string; role: string; isConnected: boolean }[]
  peers: PeerStatus[]
  problems: string[]
  /** Blocks of the newest version that are here, of how many. */
  blocks: { here: number; total: number }
}
