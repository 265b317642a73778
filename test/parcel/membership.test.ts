import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { ControlBody } from '../../lib/format/control-record.js'
import { Identity } from '../../lib/keys/identity.js'
import { Control, signControl, signGenesis, type Signed } from '../../lib/parcel/members/control.js'
import { outcomeOf } from './membership-world.js'

const SEEDS = 12

test('whatever eight hosts do, apart and together, all of them see the same members', () => {
  let members = 0
  let revoked = 0
  for (let seed = 1; seed <= SEEDS; seed++) {
    const outcome = outcomeOf(seed)
    members += outcome.roles.size
    revoked += outcome.revoked.size
  }
  // Not because everybody was shut out, or nobody.
  assert.ok(members > SEEDS && revoked > SEEDS, `${members} ${revoked}`)
})

const HOSTS = {
  a: Identity.create(),
  b: Identity.create(),
  c: Identity.create(),
  d: Identity.create()
}
type Name = keyof typeof HOSTS
const GENESIS = signGenesis(HOSTS.a, Buffer.alloc(32, 1), 0)

/** Records by hand: who says what, after what. */
class Story {
  readonly records: Signed[] = [GENESIS]

  say(by: Name, body: ControlBody, ...after: Signed[]): Signed {
    const parents = after.map(({ id }) => id)
    const rest = { parcel: GENESIS.id, epoch: 0, created: this.records.length, parents }
    const record = signControl(HOSTS[by], { ...rest, sequence: this.records.length, body })
    this.records.push(record)
    return record
  }

  admit(by: Name, who: Name, role: 'owner' | 'runner' | 'reader', ...after: Signed[]): Signed {
    return this.say(by, { type: 'member', host: HOSTS[who].publicKey, role }, ...after)
  }

  revoke(by: Name, who: Name, ...after: Signed[]): Signed {
    return this.say(by, { type: 'revoke', host: HOSTS[who].publicKey, cuts: [] }, ...after)
  }

  /** Who is a member, as 'a:owner b:runner', in whichever order the records come. */
  get members(): string {
    const seen = [this.records, this.records.toReversed()].map((records) => {
      const control = new Control(GENESIS.id)
      for (const record of records) control.add(record)
      return Object.entries(HOSTS)
        .flatMap(([name, { publicKey }]) => {
          const role = control.members.roles.get(publicKey.toString('hex'))
          return role === undefined ? [] : [`${name}:${role}`]
        })
        .join(' ')
    })
    assert.equal(seen[0], seen[1])
    return seen[0] ?? ''
  }
}

test('an owner lets in and shuts out; what others say of it is ignored', () => {
  const story = new Story()
  const b = story.admit('a', 'b', 'runner', GENESIS)
  story.admit('b', 'c', 'owner', b)
  story.revoke('b', 'a', b)
  assert.equal(story.members, 'a:owner b:runner')
  const out = story.revoke('a', 'b', b)
  assert.equal(story.members, 'a:owner')
  // Let in again, behind it.
  story.admit('a', 'b', 'reader', out)
  assert.equal(story.members, 'a:owner b:reader')
})

test('beside a revocation an admission of the same host does not count', () => {
  const story = new Story()
  const b = story.admit('a', 'b', 'owner', GENESIS)
  const c = story.admit('b', 'c', 'runner', b)
  story.revoke('a', 'c', c)
  story.admit('b', 'c', 'runner', c)
  assert.equal(story.members, 'a:owner b:owner')
})

test('who is shut out brings neither itself nor another back, whatever it pretends', () => {
  const story = new Story()
  const b = story.admit('a', 'b', 'owner', GENESIS)
  const c = story.admit('a', 'c', 'runner', b)
  const out = story.revoke('a', 'b', c)
  // Behind it, beside it as if it had never heard of it, and from before the other was there.
  story.admit('b', 'b', 'owner', out)
  const d = story.admit('b', 'd', 'owner', c)
  story.admit('d', 'b', 'owner', d)
  story.revoke('b', 'a', b)
  story.revoke('d', 'a', d)
  assert.equal(story.members, 'a:owner c:runner')
})

test('what it did before it was shut out stays', () => {
  const story = new Story()
  const b = story.admit('a', 'b', 'owner', GENESIS)
  const c = story.admit('b', 'c', 'owner', b)
  story.revoke('a', 'b', c)
  assert.equal(story.members, 'a:owner c:owner')
})

test('of two owners who shut each other out the senior one stays', () => {
  const story = new Story()
  const b = story.admit('a', 'b', 'owner', GENESIS)
  const c = story.admit('b', 'c', 'owner', b)
  story.revoke('b', 'c', c)
  story.revoke('c', 'b', c)
  assert.equal(story.members, 'a:owner b:owner')
})

test('of three owners in a circle the senior one stays, and what it did', () => {
  const story = new Story()
  const b = story.admit('a', 'b', 'owner', GENESIS)
  const c = story.admit('a', 'c', 'owner', b)
  story.revoke('a', 'b', c)
  story.revoke('b', 'c', c)
  story.revoke('c', 'a', c)
  // B's word against C is void for A's; C's against A stands, for nobody who counts was against C.
  assert.equal(story.members, 'c:owner')
})

test('records wait for those that they follow', () => {
  const story = new Story()
  const b = story.admit('a', 'b', 'owner', GENESIS)
  story.admit('b', 'c', 'runner', b)
  const control = new Control(GENESIS.id)
  const [genesis, first, second] = story.records
  assert.ok(genesis && first && second)
  control.add(second)
  assert.deepEqual([control.members.roles.size, control.parents(64)], [0, []])
  control.add(genesis)
  assert.deepEqual([control.members.roles.size, control.parents(64)], [1, [genesis.id]])
  control.add(first)
  assert.deepEqual([control.members.roles.size, control.parents(64)], [3, [second.id]])
})

test('seniority is what records that count say, not what somebody says of itself', () => {
  const story = new Story()
  const b = story.admit('a', 'b', 'owner', GENESIS)
  // From before everything, as it pretends, and with a smaller id than the genesis.
  let forged = story.admit('b', 'b', 'owner')
  while (Buffer.compare(forged.id, GENESIS.id) > 0) {
    story.records.pop()
    story.records.push(GENESIS)
    forged = story.admit('b', 'b', 'owner')
  }
  story.revoke('a', 'b', b)
  story.revoke('b', 'a', b, forged)
  assert.equal(story.members, 'a:owner')
})

test('an epoch whose number skips others does not count: nothing could follow it', () => {
  const story = new Story()
  const b = story.admit('a', 'b', 'owner', GENESIS)
  const epoch = (number: number): ControlBody => ({ type: 'epoch', number, sealed: [] })
  const first = story.say('a', epoch(1), b)
  story.say('b', epoch(2 ** 53 - 1), first)
  const second = story.say('b', epoch(2), first)
  const control = new Control(GENESIS.id)
  for (const record of story.records) control.add(record)
  assert.equal(control.members.epoch?.record, second.id.toString('hex'))
})
