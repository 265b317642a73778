import { namesOfMembers } from './describe.js'
import { ParcelError } from '../errors.js'
import type { PredictionInfo } from '../info.js'
import type { Limits } from '../limits/limits.js'
import { memberNamed } from '../names.js'
import type { Known } from '../parcel/history.js'
import { mayWrite } from '../parcel/members/control.js'
import { predict, type Prediction } from '../parcel/next-host.js'
import type { Parcel } from '../parcel/parcel.js'
import type { ParcelList } from './parcel-list.js'
import type { Wake } from './wake.js'

/** Who is less likely than this to be next gets no more than others. */
const LIKELY = 0.4
/** So long a host comes first, ms: who has not come by then comes later. */
const LONGEST = 3_600_000

/** A host that can be woken. */
export interface WakeInfo {
  /** In hex. */
  id: string
  name: string
  /** Its hardware address on the network that this machine is in; null: not known, it cannot be woken. */
  mac: string | null
}

interface Parts {
  /** In hex. */
  self: string
  parcels: ParcelList
  limits: Limits
  wake: Wake
  isConnected: (parcel: Parcel, host: string) => boolean
}

/** Knows where a parcel is wanted next, and sends what was suspended ahead to where it will be wanted: that host comes first, and is woken. */
export class NextSite {
  readonly #parts: Parts

  /** @internal */
  constructor(parts: Parts) {
    this.#parts = parts
  }

  /** Where a parcel is wanted next, as far as what hosts did before tells. */
  predict(name: string): PredictionInfo {
    const parcel = this.#parts.parcels.named(name)
    const { next, ...rest } = this.#predict(parcel)
    return { next: next.map((guess) => ({ ...guess, name: parcel.hostName(guess.host) })), ...rest }
  }

  /** Members of this host's parcels of which it is known, or not, how they are woken. */
  wakes(): WakeInfo[] {
    return this.#members().map((member) => ({ ...member, mac: this.#parts.wake.get(member.id) }))
  }

  /** Says how a member is woken; null: no more. Throws USAGE. */
  async setWake(member: string, mac: string | null): Promise<WakeInfo> {
    const id = memberNamed(this.#members(), member)
    await this.#parts.wake.set(id, mac)
    return this.#wakeOf(id)
  }

  /** Wakes a member. Throws USAGE when it is not known how. */
  async wake(member: string): Promise<WakeInfo> {
    const id = memberNamed(this.#members(), member)
    if (await this.#parts.wake.send(id)) return this.#wakeOf(id)
    throw new ParcelError(
      'USAGE',
      `it is not known how to wake ${member}: say its hardware address, 'hyperparcel wake ${member} 00:11:22:aa:bb:cc'`
    )
  }

  #wakeOf(id: string): WakeInfo {
    const one = this.wakes().find((each) => each.id === id)
    if (one === undefined) throw new ParcelError('USAGE', 'it is no member any more')
    return one
  }

  #members(): { id: string; name: string }[] {
    const all = this.#parts.parcels.all.flatMap((parcel) => namesOfMembers(parcel))
    const others = all.filter(({ id }) => id !== this.#parts.self)
    return [...new Map(others.map((member) => [member.id, member])).values()]
  }

  #predict(parcel: Parcel): Prediction {
    const { roles } = parcel.control.members
    const isPossible = (host: string): boolean => {
      const role = roles.get(host)
      return role !== undefined && mayWrite(role)
    }
    return predict(parcel.history, this.#parts.self, Date.now(), isPossible)
  }

  /**
   * A version was suspended; `to`: the user says that it is wanted by this host, in hex, next.
   * @internal
   */
  async send(parcel: Parcel, known: Known, to: string | null = null): Promise<void> {
    const { limits, wake, isConnected } = this.#parts
    const [guess] = to === null ? this.#predict(parcel).next : []
    const host = to ?? (guess !== undefined && guess.chance >= LIKELY ? guess.host : null)
    if (host === null || parcel.availability.holders(known).has(host)) return
    const until = performance.now() + LONGEST
    limits.favour(
      host,
      () =>
        performance.now() < until &&
        parcel.peers.trusted().has(host) &&
        !parcel.availability.holders(known).has(host)
    )
    if (!isConnected(parcel, host)) await wake.send(host)
  }
}
