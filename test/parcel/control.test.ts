import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import type { ControlBody, MemberRole } from '../../lib/format/control-record.js'
import { Identity } from '../../lib/keys/identity.js'
import { Control, signControl, signGenesis, type Signed } from '../../lib/parcel/members/control.js'

const HOSTS = Array.from({ length: 5 }, () => Identity.create())
const [OWNER = Identity.create()] = HOSTS
const GENESIS = signGenesis(OWNER, Buffer.alloc(32, 1), 0)
const ROLES: readonly MemberRole[] = ['owner', 'runner', 'reader', 'vault']

function host(n: number): Identity {
  return HOSTS[n % HOSTS.length] ?? OWNER
}

function sign(author: Identity, body: ControlBody, parents: Buffer[] = [], sequence = 0): Signed {
  return signControl(author, { parcel: GENESIS.id, sequence, epoch: 0, parents, created: 0, body })
}

function member(author: Identity, who: Identity, role: MemberRole, sequence = 0): Signed {
  return sign(author, { type: 'member', host: who.publicKey, role }, [GENESIS.id], sequence)
}

function cores(author: Identity, n = 0): Signed {
  const key = (m: number): Buffer => Buffer.alloc(32, 16 * n + m)
  const incarnation = { id: Buffer.alloc(16, n), control: key(1), meta: key(2), data: [key(3)] }
  return sign(author, { type: 'cores', incarnation }, [GENESIS.id])
}

/** All that follows from a set of records, in a form that does not show their order. */
function facts(records: readonly Signed[]) {
  const control = new Control(GENESIS.id)
  for (const record of records) assert.equal(control.add(record), true)
  for (const record of records) assert.equal(control.add(record), false)
  const hex = (keys: Iterable<Buffer>): string[] =>
    [...keys].map((key) => key.toString('hex')).toSorted()
  return {
    members: [...control.members.roles].map((pair) => pair.join(' ')).toSorted(),
    heads: hex(control.parents(64)),
    holders: control.receipts
      .of(Buffer.alloc(32, 3))
      .map(({ host }) => host)
      .toSorted(),
    cores: hex(control.incarnations().map(({ incarnation }) => incarnation.control)),
    counts: HOSTS.map(({ publicKey }) => control.count(publicKey))
  }
}

/** What an author writes, in small numbers, so that a counterexample can be read. */
interface Draft {
  by: number
  about: number
  kind: 'receipt' | 'pin' | MemberRole
  after: number[]
}

const drafts = fc.array(
  fc.record<Draft>(
    {
      by: fc.nat(4),
      about: fc.nat(4),
      kind: fc.constantFrom('receipt', 'pin', ...ROLES, ...ROLES),
      after: fc.uniqueArray(fc.nat(20), { maxLength: 3 })
    },
    { noNullPrototype: true }
  ),
  { maxLength: 14 }
)
const orders = fc.array(fc.nat(1_000), { minLength: 20, maxLength: 20 })

/** A genesis, the drafts as records with earlier ones as parents, and the cores of each host. */
function records(all: readonly Draft[]): Signed[] {
  const signed = [GENESIS]
  for (const [n, { by, about, kind, after }] of all.entries()) {
    const parents = new Set(after.map((at) => at % signed.length))
    const ids = [...parents].flatMap((at) => signed[at]?.id ?? [])
    const version = Buffer.alloc(32, 3)
    const body: ControlBody =
      kind === 'receipt'
        ? { type: kind, version, cores: [] }
        : kind === 'pin'
          ? { type: kind, version, pinned: true }
          : { type: 'member', host: host(about).publicKey, role: kind }
    signed.push(sign(host(by), body, ids, n + 1))
  }
  for (const [n, each] of HOSTS.entries()) signed.push(cores(each, n))
  return signed
}

function inOrder(signed: readonly Signed[], order: readonly number[]): Signed[] {
  const keys = new Map(signed.map((one, n) => [one, order[n] ?? 0]))
  return signed.toSorted((a, b) => (keys.get(a) ?? 0) - (keys.get(b) ?? 0))
}

test('members, heads, cores and holders do not depend on the order of arrival', () => {
  fc.assert(
    fc.property(drafts, orders, (all, order) => {
      // Each host is always given the same role here.
      const roles = all.map((draft): Draft => {
        const role = draft.about < 3 ? 'owner' : 'reader'
        const isMember = draft.kind !== 'receipt' && draft.kind !== 'pin'
        return { ...draft, kind: isMember ? role : draft.kind }
      })
      const signed = records(roles)
      assert.deepEqual(facts(inOrder(signed, order)), facts(signed))
    }),
    { numRuns: 150 }
  )
})

test('nor where owners gave one host different roles', () => {
  fc.assert(
    fc.property(drafts, orders, (all, order) => {
      const signed = records(all)
      assert.deepEqual(facts(inOrder(signed, order)), facts(signed))
    }),
    { numRuns: 300 }
  )
})

test("only an owner's member records count, also those of owners made by owners", () => {
  const [, a, b, c, d] = HOSTS
  assert.ok(a && b && c && d)
  const control = new Control(GENESIS.id)
  const roles = (): string[] =>
    HOSTS.map(({ publicKey }) => control.members.roles.get(publicKey.toString('hex')) ?? '-')
  const letIn = member(OWNER, a, 'owner', 1)
  const byA = { type: 'member', host: b.publicKey, role: 'owner' } as const
  control.add(sign(a, byA, [letIn.id], 2))
  // As if it had been one from the beginning.
  control.add(member(b, d, 'owner'))
  control.add(cores(b))
  // Before the genesis nobody is a member.
  assert.deepEqual(roles(), ['-', '-', '-', '-', '-'])
  control.add(GENESIS)
  assert.deepEqual(roles(), ['owner', '-', '-', '-', '-'])
  assert.deepEqual(control.incarnations(), [])
  control.add(member(OWNER, c, 'runner'))
  control.add(member(c, d, 'runner'))
  assert.deepEqual(roles(), ['owner', '-', '-', 'runner', '-'])
  control.add(letIn)
  assert.deepEqual(roles(), ['owner', 'owner', 'owner', 'runner', '-'])
  assert.equal(control.incarnations().length, 1)
})

test('a second genesis makes nobody an owner', () => {
  const mallory = Identity.create()
  const control = new Control(GENESIS.id)
  control.add(GENESIS)
  const own = signGenesis(mallory, Buffer.alloc(32, 1), 0)
  assert.throws(() => control.add(own), { code: 'INTEGRITY' })
  const inside = sign(mallory, { type: 'genesis', salt: Buffer.alloc(32) })
  assert.throws(() => control.add(inside), { code: 'INTEGRITY' })
  assert.equal(control.isMember(mallory.publicKey), false)
})

test('a wrong signature, a changed byte and another parcel are refused', () => {
  const control = new Control(GENESIS.id)
  const refused = { code: 'INTEGRITY' }
  const good = member(OWNER, host(1), 'runner')
  const { bytes, signature } = good
  assert.throws(() => control.add({ bytes, signature: Buffer.alloc(64) }), refused)
  assert.throws(() => control.add({ bytes, signature: cores(OWNER).signature }), refused)
  for (const at of [10, 40, bytes.byteLength - 1]) {
    const changed = Buffer.from(bytes)
    changed[at] = (changed[at] ?? 0) ^ 1
    assert.throws(() => control.add({ bytes: changed, signature }), { name: 'ParcelError' })
  }
  const elsewhere = signControl(OWNER, { ...good.record, parcel: Buffer.alloc(32, 9) })
  assert.throws(() => control.add(elsewhere), refused)
  assert.equal(control.parents(64).length, 0)
  assert.equal(control.add(good), true)
})

test('who founded a parcel and is let in again listens to whoever let it in until it reads of it', () => {
  const inviter = host(1)
  const key = inviter.publicKey.toString('hex')
  const control = new Control(GENESIS.id, key)
  control.add(cores(inviter))
  // What comes first of the logs is what it wrote itself.
  control.add(GENESIS)
  assert.deepEqual([...control.members.roles.keys()], [OWNER.publicKey.toString('hex')])
  assert.equal(control.isBlank, true)
  assert.deepEqual(
    control.incarnations().map(({ host }) => host.toString('hex')),
    [key]
  )
  control.add(member(OWNER, inviter, 'owner'))
  assert.equal(control.isBlank, false)
  assert.equal(control.incarnations().length, 1)
})

test('of an incarnation the last announcement counts, however many there were, and what it leaves out is known', () => {
  const control = new Control(GENESIS.id)
  control.add(GENESIS)
  const key = (n: number): Buffer => Buffer.alloc(32, n % 250 === 0 ? 1 : n % 250)
  const id = Buffer.alloc(16, 1)
  for (let n = 1; n <= 300; n++) {
    const incarnation = {
      id,
      control: key(251),
      meta: key(252),
      data: [Buffer.alloc(32, `data ${n}`)]
    }
    const fields = { parcel: GENESIS.id, sequence: n, epoch: 0, parents: [GENESIS.id], created: n }
    control.add(signControl(OWNER, { ...fields, body: { type: 'cores', incarnation } }))
  }
  const [only, ...others] = control.incarnations()
  assert.deepEqual(others, [])
  assert.deepEqual(only?.incarnation.data, [Buffer.alloc(32, 'data 300')])
  assert.equal(control.formerData().length, 299)
})

test('who says that it is without a version is no holder any more, until it signs again', () => {
  const control = new Control(GENESIS.id)
  control.add(GENESIS)
  const self = OWNER.publicKey.toString('hex')
  const log = cores(OWNER)
  control.add(log, Buffer.alloc(32, 1))
  const version = Buffer.alloc(32, 9)
  const say = (body: ControlBody, sequence: number): void => {
    control.add(sign(OWNER, body, [GENESIS.id], sequence), Buffer.alloc(32, 1))
  }
  const holds = (): boolean => control.receipts.of(version).some(({ host }) => host === self)
  say({ type: 'receipt', version, cores: [] }, 5)
  assert.deepEqual([holds(), control.receipts.isLetGo(version, self)], [true, false])
  say({ type: 'pin', version, pinned: false }, 6)
  assert.deepEqual([holds(), control.receipts.isLetGo(version, self)], [false, true])
  say({ type: 'receipt', version, cores: [] }, 7)
  assert.deepEqual([holds(), control.receipts.isLetGo(version, self)], [true, false])
})

test('nothing hangs on a receipt: no record follows it', () => {
  const control = new Control(GENESIS.id)
  const log = Buffer.alloc(32, 1)
  const receipt = sign(
    OWNER,
    { type: 'receipt', version: Buffer.alloc(32, 9), cores: [] },
    [GENESIS.id],
    1
  )
  for (const record of [GENESIS, receipt]) control.add(record, log)
  assert.deepEqual(control.parents(64), [GENESIS.id])
  assert.equal(control.standsBeside(receipt, log), true)
  assert.deepEqual(
    control.recordsIn(log).map((record) => control.idOf(record)),
    [GENESIS.id.toString('hex')]
  )
})

test('a receipt that a record follows, as earlier software made them, goes along to new logs and does not count there', () => {
  const control = new Control(GENESIS.id)
  const version = Buffer.alloc(32, 9)
  const announce = (n: number, sequence: number): Signed => {
    const { body } = cores(OWNER, n).record
    const fields = { parcel: GENESIS.id, epoch: 0, parents: [GENESIS.id] }
    return signControl(OWNER, { ...fields, sequence, created: sequence, body })
  }
  const [before, now] = [announce(0, 1), announce(1, 5)]
  const [old, next] = [Buffer.alloc(32, 1), Buffer.alloc(32, 17)]
  const receipt = sign(OWNER, { type: 'receipt', version, cores: [] }, [before.id], 2)
  const admission = sign(
    OWNER,
    { type: 'member', host: host(1).publicKey, role: 'runner' },
    [receipt.id],
    3
  )
  for (const record of [GENESIS, before, receipt, admission]) control.add(record, old)
  assert.equal(control.receipts.of(version).length, 1)
  assert.equal(control.standsBeside(receipt, old), false)

  const repeated = new Control(GENESIS.id)
  for (const record of control.recordsIn(old)) repeated.add(record, next)
  repeated.add(now, next)
  assert.equal(repeated.isMember(host(1).publicKey), true)
  assert.equal(repeated.standsBeside(receipt, old), true)
  assert.equal(repeated.receipts.of(version).length, 0)
  repeated.add(sign(OWNER, { type: 'receipt', version, cores: [] }, [now.id], 6), next)
  assert.equal(repeated.receipts.of(version).length, 1)
})

test('what records follow by way of receipts, as earlier software let them, is no head', () => {
  const control = new Control(GENESIS.id)
  const version = Buffer.alloc(32, 9)
  let last = GENESIS
  control.add(last)
  for (let n = 1; n < 400; n += 4) {
    const said = sign(OWNER, { type: 'pin', version, pinned: true }, [last.id], n)
    const first = sign(OWNER, { type: 'receipt', version, cores: [] }, [said.id], n + 1)
    const second = sign(OWNER, { type: 'receipt', version, cores: [] }, [first.id], n + 2)
    last = sign(OWNER, { type: 'pin', version, pinned: true }, [second.id], n + 3)
    for (const record of [said, first, second, last]) control.add(record)
  }
  assert.deepEqual(control.parents(64), [last.id])
})
