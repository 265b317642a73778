import { setTimeout } from 'node:timers/promises'
import type { Connection } from 'hyperswarm'
import { joinReply } from './describe.js'
import { ParcelError } from '../errors.js'
import type { MemberRole } from '../format/control-record.js'
import { printable } from '../format/file-table.js'
import type { JoinReply } from '../format/pairing.js'
import type { RecoveryAnswer } from '../format/recovery.js'
import type { Home } from '../home.js'
import type { InviteOptions, Newcomer, OpenInvite, ParcelInfo } from '../info.js'
import { fingerprint } from '../keys/words.js'
import { requireName } from '../names.js'
import type { ParcelContext } from '../parcel/context.js'
import { Parcel } from '../parcel/parcel.js'
import { openRecovery } from '../parcel/members/recovery.js'
import type { ParcelList } from './parcel-list.js'
import type { Work } from '../progress.js'
import type { Node } from '../swarm/dht.js'
import { Pairing } from '../swarm/pairing.js'
import { RecoverySearch } from '../swarm/recovery.js'
import { Removed } from './removed.js'
import { driverNamed } from '../vmm/drivers.js'

/** A name is what a stranger says: nothing in it moves a cursor or begins a line. */
function shown({ host, name }: { host: Buffer; name: string }): Newcomer {
  const text = printable(Buffer.from(name)).slice(0, 64)
  return { id: host.toString('hex'), name: text, words: fingerprint(host) }
}

const yes = async (): Promise<boolean> => true
const DEFAULT_TTL = 10 * 60_000
const JOIN_TIMEOUT = 60_000
/** So long others are waited for when one has answered, ms. */
const OTHERS = 2_000

/** What a host lends to its entrance. */
interface Parts {
  home: Home
  context: ParcelContext
  bootstrap: Node[] | null
  parcels: ParcelList
  /** Adds a parcel that was joined, and meets its members. */
  share: (parcel: Parcel) => void
  /** Calls for each host that this one is connected with, now or later. */
  whenMet: (onMet: (connection: Connection) => void) => void
  describe: (parcel: Parcel) => Promise<ParcelInfo>
  /** One thing at a time changes the list of parcels. */
  alone: <T>(work: () => Promise<T>) => Promise<T>
}

/**
 * How hosts come into parcels: others into those of this host, by its invites; this host into
 * others', by theirs; and, with nothing but its 24 words, back into its own.
 */
export class Entrance {
  readonly pairing: Pairing
  readonly removed: Removed
  readonly #parts: Parts
  readonly #parcels: ParcelList
  #search: RecoverySearch | null = null
  /** Why none came back although a host had answered. */
  #notBack = new ParcelError(
    'UNREACHABLE',
    'a host answered, but has no parcel that this one is in: bring another online; ' +
      'the search goes on while the daemon runs'
  )

  constructor(parts: Parts) {
    this.#parts = parts
    this.#parcels = parts.parcels
    this.removed = new Removed(parts.home)
    this.pairing = new Pairing(parts.home.identity, parts.bootstrap, parts.context.clock)
  }

  async close(): Promise<void> {
    await this.#search?.close()
    await this.pairing.close()
  }

  /**
   * Opens an invite for one host to a parcel, as a link and as a short code, good for `ttl` ms and
   * for as long as this process runs. Throws FORBIDDEN.
   */
  async invite(
    name: string,
    { ttl = DEFAULT_TTL, role = 'runner', approve = yes }: InviteOptions = {}
  ): Promise<OpenInvite> {
    const parcel = this.#parcels.named(name)
    parcel.admission.requireOwner('invite')
    const { link, code, expires } = await this.pairing.invite({
      ttl,
      approve: (newcomer) => approve(shown(newcomer)),
      admit: async ({ host }) => [await this.admit(parcel, host, role)]
    })
    return { invite: link, code, expires }
  }

  /**
   * Opens an invite by which another machine of the same person becomes an owner of every parcel
   * that this host owns. Throws FORBIDDEN when there is none.
   */
  async link({ ttl = DEFAULT_TTL, approve = yes }: Omit<InviteOptions, 'role'> = {}): Promise<
    OpenInvite & { parcels: string[] }
  > {
    const owned = this.#parcels.all.filter(({ role }) => role === 'owner')
    if (owned.length === 0) {
      throw new ParcelError('FORBIDDEN', 'this host owns no parcel that another could be let into')
    }
    const { link, code, expires } = await this.pairing.invite({
      ttl,
      approve: (newcomer) => approve(shown(newcomer)),
      admit: async ({ host }) => {
        const replies: JoinReply[] = []
        for (const parcel of owned) replies.push(await this.admit(parcel, host, 'owner'))
        return replies
      }
    })
    return { invite: link, code, expires, parcels: owned.map(({ name }) => name) }
  }

  /**
   * Joins all parcels that an invite is to; `name` is what the first is called here. `asVault`: only
   * where this host is given no key to read with. Throws BAD_INVITE, INVITE_EXPIRED, INVITE_USED,
   * BAD_KEY (not let in), UNREACHABLE, NAME_TAKEN, FORBIDDEN.
   */
  join(
    invite: string,
    {
      name,
      timeout = JOIN_TIMEOUT,
      asVault = false
    }: { name?: string; timeout?: number; asVault?: boolean },
    work: Work
  ): Promise<ParcelInfo[]> {
    return this.#parts.alone(async () => {
      if (name !== undefined) {
        requireName(name)
        this.#parcels.requireFree(name)
      }
      const options = { timeout, signal: work.signal }
      const replies = await this.pairing.join(invite, this.#parts.home.name, options)
      if (asVault && replies.some(({ role }) => role !== 'vault')) {
        throw new ParcelError(
          'FORBIDDEN',
          'this invite is for a host that reads the parcel: a vault needs one of ' +
            "'hyperparcel vault invite NAME'"
        )
      }
      const joined: ParcelInfo[] = []
      for (const [n, reply] of replies.entries()) {
        try {
          joined.push(await this.take(reply, n === 0 ? name : undefined))
        } catch (error) {
          // The invite is used: what can be joined of it is.
          if (replies.length === 1) throw error
          work.note(`not joined: ${reply.name}: ${ParcelError.from(error).message}`)
        }
      }
      return joined
    })
  }

  /** Looks for members of parcels that this host is in and does not have, or not enough of. */
  seek(): void {
    if (this.#search !== null) return
    const { home, bootstrap, whenMet } = this.#parts
    const search = new RecoverySearch(home.identity, bootstrap, (answer) => this.#recover(answer))
    this.#search = search
    whenMet((connection) => search.ask(connection))
  }

  /**
   * For a host that was restored from its 24 words: waits until a member or a vault has said which
   * parcels it is in. Later ones come by themselves. Throws UNREACHABLE, and what kept them all
   * from coming.
   */
  async found({ timeout = JOIN_TIMEOUT }: { timeout?: number }, work: Work): Promise<void> {
    const began = performance.now()
    work.report({ step: 'looking for members', done: 0, total: 0, unit: 'blocks' })
    for (let heard = 0, last = began; ; await setTimeout(50, undefined, { signal: work.signal })) {
      const now = performance.now()
      if (this.#search !== null && this.#search.heard > heard) {
        heard = this.#search.heard
        last = now
      }
      if (heard > 0 && now - last > OTHERS) break
      if (now - began > timeout) {
        throw new ParcelError(
          'UNREACHABLE',
          'no host or vault that this one shared a parcel with answers yet: bring one online; ' +
            'the search goes on while the daemon runs'
        )
      }
    }
    // Those that are on their way into the list.
    await this.#parts.alone(async () => {})
    if (this.#parcels.all.length === 0) throw this.#notBack
  }

  /** Makes a host a member; what it has to know. Throws UNKNOWN_PARCEL when it was removed meanwhile. */
  async admit(parcel: Parcel, host: Buffer, role: MemberRole): Promise<JoinReply> {
    if (this.#parcels.withId(parcel.id) !== parcel) {
      throw new ParcelError('UNKNOWN_PARCEL', `"${parcel.name}" was removed here`)
    }
    await parcel.admission.admit(host, role)
    return joinReply(parcel, this.#parts.home, role)
  }

  /** Takes in what an inviter has said. `carriesTo`: as a vault that is on its way to these hosts, in hex. */
  async take(
    reply: JoinReply,
    name = reply.name,
    carriesTo: readonly string[] = []
  ): Promise<ParcelInfo> {
    const known = this.#parcels.withId(reply.parcel)
    if (known !== undefined) {
      await known.takeKeys(reply)
      await known.says.recovery(known, { isAgain: true })
      return this.#parts.describe(known)
    }
    driverNamed(reply.driver)
    await this.removed.delete(reply.parcel)
    const parcel = await Parcel.join(this.#parts.context, {
      ...reply,
      id: reply.parcel,
      name: this.#parcels.freeName(name),
      carriesTo
    })
    this.#parts.share(parcel)
    return this.#parts.describe(parcel)
  }

  /** Becomes a member again of what this host has signed that it is in. Throws INTEGRITY. */
  #recover(answer: RecoveryAnswer): void {
    const { name, driver, epochs } = openRecovery(answer, this.#parts.home.identity)
    const [newest, ...earlier] = epochs
    const { parcel: id, announcements } = answer
    if (newest === undefined) return
    driverNamed(driver)
    this.#parts
      .alone(async () => {
        const known = this.#parcels.withId(id)
        if (known !== undefined) {
          for (const keys of epochs) await known.takeKeys(keys)
          await known.peers.introduce(announcements)
          return
        }
        if (await this.removed.has(id)) return
        const free = this.#parcels.freeName(name)
        const fields = { ...newest, id, announcements, driver, name: free }
        const parcel = await Parcel.join(this.#parts.context, fields)
        for (const keys of earlier) await parcel.takeKeys(keys)
        this.#parts.share(parcel)
      })
      .catch((error: unknown) => {
        this.#notBack = ParcelError.from(error)
        this.#parcels.addProblem(this.#notBack)
      })
  }
}
