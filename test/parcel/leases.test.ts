import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import type { MemberRole } from '../../lib/format/control-record.js'
import { electorate, leasesOf, type Claim, type Lease } from '../../lib/parcel/members/leases.js'

const HOSTS = ['aa', 'bb', 'cc', 'dd'].map((name) => name.repeat(32))
const [A = '', B = '', C = '', D = ''] = HOSTS

const WRITERS = new Set([A, B, C])

let count = 0
function claim(
  author: string,
  number: number,
  holder: string,
  {
    isForced = false,
    voters = [],
    version = 7
  }: { isForced?: boolean; voters?: readonly string[]; version?: number } = {}
): Claim {
  return {
    id: Buffer.alloc(32, ++count),
    author,
    sequence: count,
    number,
    holder,
    version: Buffer.alloc(32, version),
    isForced,
    voters: voters.map((key) => Buffer.from(key, 'hex')),
    heads: []
  }
}
const vote = (author: string, number: number, holder: string, version = 7): Claim =>
  claim(author, number, holder, { voters: [A, B, C], version })

const leaseOf = (claims: Claim[]): Lease | null => leasesOf(claims, WRITERS).at(-1) ?? null
const holderOf = (claims: Claim[]): string | null => leaseOf(claims)?.holder ?? null

test('a lease goes on by its holder, by a majority, or by force, and by nobody else', () => {
  assert.equal(leaseOf([]), null)
  const begun = claim(A, 1, A)
  assert.deepEqual([holderOf([begun]), leaseOf([begun])?.origin], [A, 'begun'])
  assert.equal(holderOf([claim(D, 1, D)]), null, 'who makes no versions begins none')
  assert.equal(holderOf([begun, claim(D, 2, D, { isForced: true })]), A)
  assert.equal(holderOf([begun, claim(B, 2, B)]), A, 'nobody else may say so alone')
  assert.equal(holderOf([begun, claim(A, 2, B)]), B)
  const voted = [begun, vote(B, 2, B), vote(C, 2, B)]
  assert.deepEqual([holderOf(voted), leaseOf(voted)?.origin], [B, 'voted'])
  assert.equal(holderOf([begun, vote(B, 2, B), vote(C, 2, C)]), A, 'split votes are for nobody')
  assert.equal(
    holderOf([begun, vote(B, 2, B), vote(C, 2, B, 8)]),
    A,
    'nor what they do not agree on'
  )
  assert.equal(holderOf([begun, vote(B, 2, B), vote(C, 2, C), vote(B, 3, C), vote(C, 3, C)]), C)
  assert.equal(
    holderOf([begun, claim(B, 2, C, { isForced: true })]),
    A,
    'nobody forces it for another'
  )
  const taken = [begun, claim(B, 2, B, { isForced: true })]
  assert.deepEqual([holderOf(taken), leaseOf(taken)?.origin], [B, 'forced'])
  assert.equal(holderOf([...taken, claim(A, 3, A)]), B, 'who had it before has it no more')
  assert.equal(holderOf([begun, claim(A, 2, '0'.repeat(64))]), null, 'it is over')
  // A host has one word on each number, and a vote counts once.
  assert.equal(holderOf([begun, vote(B, 2, B), vote(B, 2, B)]), A)
  assert.equal(holderOf([begun, vote(B, 2, C), vote(B, 2, B), vote(C, 2, B)]), A)
  // Nobody can use the numbers up.
  assert.equal(holderOf([begun, claim(B, 2 ** 40, B, { isForced: true })]), A)
  // The holder's own word says what the next one goes on from.
  const both = [
    begun,
    claim(B, 2, B, { version: 1, voters: [A, B, C] }),
    claim(A, 2, B, { version: 9 })
  ]
  assert.equal(leaseOf(both)?.heads[0]?.[0], 9)
})

test('who has a vote, the votes say: of two hosts a vault is the witness, a reader has none', () => {
  const begun = claim(A, 1, A)
  const votes = (voters: string[], ...by: string[]): Claim[] =>
    by.map((author) => claim(author, 2, B, { voters }))
  assert.equal(holderOf([begun, ...votes([A, B], B)]), A)
  assert.equal(holderOf([begun, ...votes([A, B, D], B, D)]), B)
  assert.equal(holderOf([begun, ...votes([A, B, D], B, C)]), A)
  assert.equal(holderOf([begun, ...votes([B, D], B, D)]), A, 'the holder before has one')
  const of = (...each: [string, MemberRole][]) => electorate(new Map(each))
  assert.deepEqual(of([A, 'owner'], [B, 'runner'], [D, 'vault'], [C, 'reader']).voters, [A, B, D])
  assert.deepEqual(of([A, 'owner'], [B, 'owner'], [C, 'owner'], [D, 'vault']).voters, [A, B, C])
})

test('which lease counts does not depend on the order in which its records come', () => {
  const one = fc.record({
    author: fc.constantFrom(...HOSTS),
    number: fc.integer({ min: 1, max: 5 }),
    holder: fc.constantFrom(...HOSTS),
    isForced: fc.boolean(),
    voters: fc.constantFrom([], [A, B, C], [A, B])
  })
  fc.assert(
    fc.property(
      fc.array(one, { maxLength: 14 }),
      fc.array(fc.nat(), { minLength: 14 }),
      (all, order) => {
        const claims = all.map((each) => claim(each.author, each.number, each.holder, each))
        const shuffled = claims
          .map((each, i) => ({ each, by: order[i] ?? 0 }))
          .toSorted((a, b) => a.by - b.by)
          .map(({ each }) => each)
        assert.deepEqual(leasesOf(shuffled, WRITERS), leasesOf(claims, WRITERS))
      }
    )
  )
})
