import assert from 'node:assert/strict'
import type { ControlBody, MemberRole } from '../../lib/format/control-record.js'
import { Identity } from '../../lib/keys/identity.js'
import { Control, signControl, signGenesis, type Signed } from '../../lib/parcel/members/control.js'
import type { Members } from '../../lib/parcel/members/membership.js'
import { randomFrom, type Random } from '../support/random.js'

interface WorldHost {
  identity: Identity
  control: Control
  /** In which part of a network that has come apart. */
  part: number
  written: number
}

const ROLES: readonly MemberRole[] = ['owner', 'owner', 'runner', 'reader', 'vault']

/** What 500 operations of eight hosts come to; every host and a stranger must say the same. */
export function outcomeOf(seed: number): Members {
  const world = new World(seed, 8)
  for (let step = 0; step < 500; step++) world.step()
  world.meet()
  const expected = world.stranger().members
  for (const { control } of world.hosts) assert.deepEqual(control.members, expected, `seed ${seed}`)
  return expected
}

/**
 * Hosts of one parcel that let each other in and shut each other out, honest and not, while the
 * network comes apart and together. Each has its own records; what arrives does so in any order.
 */
class World {
  readonly hosts: readonly WorldHost[]
  readonly records: Signed[] = []
  readonly #random: Random
  readonly #parcel: Buffer

  constructor(seed: number, size: number) {
    this.#random = randomFrom(seed)
    const identities = Array.from({ length: size }, () => Identity.create())
    const [first] = identities
    if (first === undefined) throw new RangeError('a world of nobody')
    const genesis = signGenesis(first, Buffer.alloc(32, seed & 255), 0)
    this.#parcel = genesis.id
    this.records.push(genesis)
    this.hosts = identities.map((identity) => {
      const control = new Control(genesis.id)
      control.add(genesis)
      return { identity, control, part: 0, written: identity === first ? 1 : 0 }
    })
    // Some owners to begin with: they are who can contradict each other.
    for (const other of identities.slice(1, 4)) {
      this.#say(this.#host(0), { type: 'member', host: other.publicKey, role: 'owner' })
    }
  }

  /** One thing that one host does, or that happens to the network. */
  step(): void {
    const dice = this.#random(100)
    if (dice < 4) for (const host of this.hosts) host.part = this.#random(3)
    else if (dice < 8) for (const host of this.hosts) host.part = 0
    else this.#act(this.#host(this.#random(this.hosts.length)))
  }

  /** Every host gets every record, each in an order of its own. */
  meet(): void {
    for (const { control } of this.hosts) {
      const all = [...this.records]
      for (let n = all.length - 1; n > 0; n--) {
        const other = this.#random(n + 1)
        const [a, b] = [all[n], all[other]]
        if (a !== undefined && b !== undefined) [all[n], all[other]] = [b, a]
      }
      for (const record of all) control.add(record)
    }
  }

  /** Records alone, given to somebody who was not there. */
  stranger(): Control {
    const control = new Control(this.#parcel)
    for (const record of this.records.toReversed()) control.add(record)
    return control
  }

  #act(by: WorldHost): void {
    const about = this.#host(this.#random(this.hosts.length)).identity.publicKey
    const dice = this.#random(10)
    const role = ROLES[this.#random(ROLES.length)] ?? 'reader'
    const sealed = [{ host: about, keys: Buffer.alloc(8) }]
    const body: ControlBody =
      dice < 5
        ? { type: 'member', host: about, role }
        : dice < 8
          ? { type: 'revoke', host: about, cuts: [] }
          : { type: 'epoch', number: this.#random(6), sealed }
    // A liar pretends that it has not heard of most things.
    const parents = by.control.parents(64)
    const isLiar = this.#random(8) === 0
    const old = this.records[this.#random(this.records.length)]
    this.#say(by, body, isLiar && old !== undefined ? [old.id] : parents.slice(0, 64))
  }

  #say(by: WorldHost, body: ControlBody, parents = by.control.parents(64)): void {
    const record = signControl(by.identity, {
      parcel: this.#parcel,
      sequence: by.written++,
      epoch: 0,
      parents,
      created: this.records.length,
      body
    })
    this.records.push(record)
    for (const { control, part } of this.hosts) {
      if (part === by.part && (by.control === control || this.#random(4) > 0)) control.add(record)
    }
    by.control.add(record)
  }

  #host(n: number): WorldHost {
    const host = this.hosts[n]
    if (host === undefined) throw new RangeError('no such host')
    return host
  }
}
