import { ParcelError } from '../errors.js'
import type { MemberRole } from '../format/control-record.js'
import type { Swarm } from '../swarm/swarm.js'
import type { Entrance } from './entrance.js'
import type { ParcelList } from './parcel-list.js'

interface Parts {
  publicKey: Buffer
  parcels: ParcelList
  swarm: Swarm
  entrance: Entrance
  /** One thing at a time on the list of parcels. */
  alone: <T>(work: () => Promise<T>) => Promise<T>
}

/** A host to the other hosts of its process: the folders that are vaults, which need no network. */
export class InProcess {
  readonly #parts: Parts

  /** @internal */
  constructor(parts: Parts) {
    this.#parts = parts
  }

  get #id(): string {
    return this.#parts.publicKey.toString('hex')
  }

  /** Lets another host in, as an invite would; it is known to the others then. Throws FORBIDDEN. */
  async letIn(
    name: string,
    other: InProcess,
    role: MemberRole,
    carriesTo: readonly string[] = []
  ): Promise<void> {
    const { parcels, entrance } = this.#parts
    const there = other.#parts
    const reply = await entrance.admit(parcels.named(name), there.publicKey, role)
    await there.alone(() => there.entrance.take(reply, reply.name, carriesTo))
  }

  /**
   * Connects with another host without a network, as the user has said, and be it known as a member yet
   * or not. Returns how to end that.
   */
  async meet(other: InProcess): Promise<() => void> {
    const ends = this.#parts.parcels.all.flatMap((parcel) => {
      const there = other.#parts.parcels.withId(parcel.id)
      return there === undefined
        ? []
        : [parcel.peers.welcome(other.#id), there.peers.welcome(this.#id)]
    })
    ends.push(await this.#parts.swarm.meet(other.#parts.swarm))
    return () => {
      for (const end of ends) end()
    }
  }

  /** Has this vault carry to some hosts, in hex, what they lack of a parcel, by its id in hex; to none: it keeps all of it. */
  async carry(parcel: string, to: readonly string[]): Promise<void> {
    const found = this.#parts.parcels.withId(Buffer.from(parcel, 'hex'))
    if (found === undefined) throw new ParcelError('UNKNOWN_PARCEL', 'this vault does not have it')
    await found.setCarriesTo(to)
  }

  /** Hosts, in hex, to which this vault carries what they lack of any parcel. */
  get carriesTo(): string[] {
    return [...new Set(this.#parts.parcels.all.flatMap(({ carriesTo }) => carriesTo))]
  }

  /** What hosts, in hex, call themselves. */
  namesOf(hosts: readonly string[]): string[] {
    return hosts.map((id) => {
      const parcel = this.#parts.parcels.all.find((each) => each.control.members.roles.has(id))
      return parcel?.hostName(id) ?? id.slice(0, 8)
    })
  }

  /** Of the blocks that another host has, how many are here that are wanted. */
  takenFrom(other: InProcess): { done: number; total: number } {
    let [done, total] = [0, 0]
    for (const parcel of this.#parts.parcels.all) {
      const there = other.#parts.parcels.withId(parcel.id)
      for (const log of there?.logs() ?? []) {
        const isUnwanted = !parcel.hoard.isAll || parcel.space.isLetGo(log.key.toString('hex'))
        if (log.kind === 'data' && isUnwanted) continue
        const here = parcel.logs().find(({ key }) => key.equals(log.key))
        for (const { start, end } of log.ranges()) {
          total += end - start
          done += here === undefined ? 0 : end - start - here.missing(start, end).length
        }
      }
    }
    return { done, total }
  }

  /** Of the blocks that are here, of parcels that another host has too, how many are there. */
  copiedTo(other: InProcess): { done: number; total: number } {
    let [done, total] = [0, 0]
    for (const parcel of this.#parts.parcels.all) {
      const there = other.#parts.parcels.withId(parcel.id)?.availability.held()
      if (there === undefined) continue
      for (const [core, count] of parcel.availability.held()) {
        total += count
        done += Math.min(there.get(core) ?? 0, count)
      }
    }
    return { done, total }
  }
}
