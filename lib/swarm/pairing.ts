import { setTimeout as delay } from 'node:timers/promises'
import BlindPairing, { type Candidate, type Invite, type Member } from 'blind-pairing'
import type DHT from 'hyperdht'
import Hyperswarm from 'hyperswarm'
import { ParcelError } from '../errors.js'
import {
  decodeJoinReply,
  decodeJoinRequest,
  encodeJoinReply,
  encodeJoinRequest,
  inviteText,
  parseInvite,
  type JoinReply
} from '../format/pairing.js'
import {
  keyPairFrom,
  randomBytes,
  sealTo,
  signDetached,
  verifySignature,
  type Identity
} from '../keys/identity.js'
import { NS } from '../keys/namespaces.js'
import { createNode, type Node } from './dht.js'

/** How often both sides look for each other in the DHT, besides being told. */
const POLL = 3_000
/** An invite that was used still answers the same newcomer this long: its reply may have been lost. */
const AFTERGLOW = 60_000
/** How long `invite` waits for the DHT to know of it. */
const ANNOUNCE_LIMIT = 2_000

interface OpenInvite {
  invite: Invite
  member: Member
  timer: NodeJS.Timeout
  /** Who used it; nobody else may. */
  usedBy: Buffer | null
}

/**
 * Letting new hosts in. They are strangers, so it all happens on a swarm of its own, with a key
 * that lives only as long as an invite does; the trusted swarm never talks to them.
 */
export class Pairing {
  readonly #identity: Identity
  readonly #bootstrap: Node[] | null
  readonly #clock: () => number
  #pairing: { swarm: Hyperswarm; blind: BlindPairing } | null = null
  readonly #invites = new Map<string, OpenInvite>()
  #users = 0

  constructor(identity: Identity, bootstrap: Node[] | null, clock: () => number) {
    this.#identity = identity
    this.#bootstrap = bootstrap
    this.#clock = clock
  }

  /** Invites that can still be used. */
  get open(): number {
    return [...this.#invites.values()].filter(({ usedBy }) => usedBy === null).length
  }

  /**
   * Opens an invite for one host, good for `ttl` ms. `admit` makes the newcomer a member and says
   * what it needs to know. Returns the invite as text.
   */
  async invite(
    ttl: number,
    admit: (host: Buffer, name: string) => Promise<JoinReply>
  ): Promise<{ text: string; expires: number }> {
    const { blind } = this.#start()
    const key = randomBytes(32)
    const expires = Math.ceil((this.#clock() + ttl) / 1_000) * 1_000
    const invite = BlindPairing.createInvite(key, { expires })
    const name = invite.id.toString('hex')
    const member = blind.addMember({
      discoveryKey: invite.discoveryKey,
      onadd: async (request) => {
        const open = this.#invites.get(name)
        if (open === undefined || !request.inviteId.equals(invite.id)) return
        if (this.#clock() >= expires) {
          request.open(invite.publicKey)
          request.deny({ status: 3 })
          return
        }
        const newcomer = decodeJoinRequest(request.open(invite.publicKey))
        const { host } = newcomer
        if (!verifySignature(NS.joinSignature, invite.id, newcomer.signature, host)) {
          request.deny({ status: 1 })
          return
        }
        if (open.usedBy !== null && !open.usedBy.equals(host)) {
          request.deny({ status: 2 })
          return
        }
        open.usedBy = host
        const reply = encodeJoinReply(await admit(host, newcomer.name))
        // Whoever holds the invite can read a reply; only the newcomer can open what is in it.
        const data = sealTo(host, reply)
        const signature = signDetached(keyPairFrom(invite.seed), data)
        request.confirm({ key, additional: { data, signature } })
        this.#expireIn(name, AFTERGLOW)
      }
    })
    const timer = setTimeout(() => void this.#end(name), ttl + AFTERGLOW)
    this.#invites.set(name, { invite, member, timer, usedBy: null })
    // Announced or not by now, it goes on in the background.
    await Promise.race([member.flushed(), delay(ANNOUNCE_LIMIT)])
    return { text: inviteText(invite.invite), expires }
  }

  /** Uses an invite. Throws BAD_INVITE, INVITE_EXPIRED, INVITE_USED, UNREACHABLE, INTERRUPTED. */
  async join(
    text: string,
    hostName: string,
    { timeout, signal }: { timeout: number; signal: AbortSignal }
  ): Promise<JoinReply> {
    const invite = parseInvite(text)
    const { id, expires } = decodeInvite(invite)
    if (expires !== 0 && this.#clock() >= expires) throw expired()
    signal.throwIfAborted()
    const { blind } = this.#start()
    this.#users++
    const signature = this.#identity.sign(NS.joinSignature, id)
    const request = { host: this.#identity.publicKey, name: hostName, signature }
    let candidate: Candidate | null = null
    let timer: NodeJS.Timeout | undefined
    try {
      return await new Promise<JoinReply>((resolve, reject) => {
        timer = setTimeout(() => reject(noAnswer()), timeout)
        signal.addEventListener(
          'abort',
          () =>
            reject(new ParcelError('INTERRUPTED', 'join was interrupted: use the invite again')),
          { once: true }
        )
        candidate = blind.addCandidate({
          invite,
          userData: encodeJoinRequest(request),
          onadd: async ({ data }) => {
            const reply = data === null ? null : this.#identity.unseal(data)
            if (reply === null)
              reject(new ParcelError('BAD_KEY', 'the answer was not for this host'))
            else resolve(decodeJoinReply(reply))
          }
        })
        candidate.request.on('rejected', (error: Error) => reject(rejection(error)))
      })
    } finally {
      clearTimeout(timer)
      this.#users--
      await closeQuietly(candidate)
      await this.#stopIfIdle()
    }
  }

  async close(): Promise<void> {
    for (const name of this.#invites.keys()) await this.#end(name)
    const pairing = this.#pairing
    this.#pairing = null
    await pairing?.blind.close()
    await pairing?.swarm.destroy()
  }

  #start(): { swarm: Hyperswarm; blind: BlindPairing } {
    if (this.#pairing !== null) return this.#pairing
    const dht: DHT = createNode(this.#bootstrap)
    const swarm = new Hyperswarm({ keyPair: keyPairFrom(randomBytes(32)), dht })
    swarm.on('connection', (connection) => connection.on('error', () => {}))
    this.#pairing = { swarm, blind: new BlindPairing(swarm, { poll: POLL }) }
    return this.#pairing
  }

  #expireIn(name: string, ms: number): void {
    const open = this.#invites.get(name)
    if (open === undefined) return
    clearTimeout(open.timer)
    open.timer = setTimeout(() => void this.#end(name), ms)
  }

  async #end(name: string): Promise<void> {
    const open = this.#invites.get(name)
    if (open === undefined) return
    this.#invites.delete(name)
    clearTimeout(open.timer)
    await open.member.close()
    await this.#stopIfIdle()
  }

  async #stopIfIdle(): Promise<void> {
    if (this.#users > 0 || this.#invites.size > 0) return
    await this.close()
  }
}

function decodeInvite(invite: Buffer): { id: Buffer; expires: number } {
  try {
    return BlindPairing.decodeInvite(invite)
  } catch (error) {
    throw new ParcelError('BAD_INVITE', 'not an invite: it must be copied whole', error)
  }
}

async function closeQuietly(candidate: Candidate | null): Promise<void> {
  await candidate?.close().catch(() => {})
}

function rejection(error: Error): ParcelError {
  const code = 'code' in error ? error.code : ''
  if (code === 'INVITE_USED') {
    return new ParcelError('INVITE_USED', 'this invite was used by another host: ask for a new one')
  }
  if (code === 'INVITE_EXPIRED') return expired()
  return new ParcelError('BAD_KEY', 'the inviting host refused: ask for a new invite', error)
}

function expired(): ParcelError {
  return new ParcelError('INVITE_EXPIRED', 'this invite has expired: ask for a new one')
}

function noAnswer(): ParcelError {
  return new ParcelError(
    'UNREACHABLE',
    'the inviting host does not answer: is it online, with hyperparcel running, and the invite unused?'
  )
}
