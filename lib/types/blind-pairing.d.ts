declare module 'blind-pairing' {
  import type { EventEmitter } from 'node:events'
  import type Hyperswarm from 'hyperswarm'

  export interface Invite {
    id: Buffer
    invite: Buffer
    seed: Buffer
    publicKey: Buffer
    discoveryKey: Buffer
    expires: number
  }

  export interface MemberRequest {
    readonly inviteId: Buffer
    open(publicKey: Buffer): Buffer
    confirm(reply: { key: Buffer; additional: { data: Buffer; signature: Buffer } }): void
    /** status 1: rejected, 2: used up, 3: expired */
    deny(reason: { status: 1 | 2 | 3 }): void
  }

  export interface Member {
    flushed(): Promise<void>
    close(): Promise<void>
  }

  export interface Candidate {
    readonly request: EventEmitter
    readonly pairing: Promise<unknown>
    close(): Promise<void>
  }

  export default class BlindPairing {
    constructor(swarm: Hyperswarm, options?: { poll?: number })
    static createInvite(key: Buffer, options: { expires: number }): Invite
    static decodeInvite(invite: Buffer): {
      id: Buffer
      seed: Buffer
      discoveryKey: Buffer
      expires: number
    }
    addMember(options: {
      discoveryKey: Buffer
      onadd: (request: MemberRequest) => Promise<void>
    }): Member
    addCandidate(options: {
      invite: Buffer
      userData: Buffer
      onadd: (reply: { key: Buffer; data: Buffer | null }) => Promise<void>
    }): Candidate
    close(): Promise<void>
  }
}
