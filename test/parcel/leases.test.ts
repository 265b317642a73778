import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import type { MemberRole } from '../../lib/format/control-record.js'
import { electorate, leaseOf, type Claim } from '../../lib/parcel/leases.js'

const HOSTS = ['aa', 'bb', 'cc', 'dd'].map((name) => name.repeat(32))
const [A = '', B = '', C = '', D = ''] = HOSTS
const roles = (...each: [string, MemberRole][]): Map<string, MemberRole> => new Map(each)
const THREE = roles([A, 'owner'], [B, 'runner'], [C, 'runner'])

let count = 0
function claim(author: string, number: number, holder: string, isForced = false): Claim {
  const id = Buffer.alloc(32, ++count)
  return { id, author, sequence: count, number, holder, version: Buffer.alloc(32, 7), isForced }
}

const holderOf = (claims: Claim[], who = THREE): string | null =>
  leaseOf(claims, who)?.holder ?? null

test('a lease goes on by its holder, by a majority, or by force, and by nobody else', () => {
  assert.equal(leaseOf([], THREE), null)
  const begun = claim(A, 1, A)
  assert.deepEqual([holderOf([begun]), leaseOf([begun], THREE)?.origin], [A, 'begun'])
  assert.equal(holderOf([begun, claim(B, 2, B)]), A, 'nobody else may say so alone')
  assert.equal(holderOf([begun, claim(A, 2, B)]), B)
  const voted = [begun, claim(B, 2, B), claim(C, 2, B)]
  assert.deepEqual([holderOf(voted), leaseOf(voted, THREE)?.origin], [B, 'voted'])
  assert.equal(holderOf([begun, claim(B, 2, B), claim(C, 2, C)]), A, 'split votes are for nobody')
  assert.equal(holderOf([begun, claim(B, 2, B), claim(C, 2, C), claim(B, 3, C), claim(C, 3, C)]), C)
  assert.equal(holderOf([begun, claim(B, 2, C, true)]), A, 'nobody forces it for another')
  const taken = [begun, claim(B, 2, B, true)]
  assert.deepEqual([holderOf(taken), leaseOf(taken, THREE)?.origin], [B, 'forced'])
  assert.equal(holderOf([...taken, claim(A, 3, A)]), B, 'who had it before has it no more')
  assert.equal(holderOf([begun, claim(A, 2, '0'.repeat(64))]), null, 'it is over')
  // A host has one word on each number, and a vote counts once.
  assert.equal(holderOf([begun, claim(B, 2, B), claim(B, 2, B)]), A)
  assert.equal(holderOf([begun, claim(B, 2, C), claim(B, 2, B), claim(C, 2, B)]), A)
})

test('of two hosts a vault is the witness; a reader has no vote', () => {
  const begun = claim(A, 1, A)
  const two = roles([A, 'owner'], [B, 'runner'])
  assert.equal(holderOf([begun, claim(B, 2, B)], two), A)
  const withVault = roles([A, 'owner'], [B, 'runner'], [D, 'vault'])
  assert.equal(holderOf([begun, claim(B, 2, B), claim(D, 2, B)], withVault), B)
  assert.equal(holderOf([begun, claim(B, 2, B)], withVault), A)
  const withReader = roles([A, 'owner'], [B, 'runner'], [C, 'reader'])
  assert.equal(holderOf([begun, claim(B, 2, B), claim(C, 2, B)], withReader), A)
  const four = roles([A, 'owner'], [B, 'owner'], [C, 'owner'], [D, 'vault'])
  assert.equal(electorate(four).voters.has(D), false)
})

test('which lease counts does not depend on the order in which its records come', () => {
  const one = fc.record({
    author: fc.constantFrom(...HOSTS),
    number: fc.integer({ min: 1, max: 5 }),
    holder: fc.constantFrom(...HOSTS),
    isForced: fc.boolean()
  })
  fc.assert(
    fc.property(
      fc.array(one, { maxLength: 14 }),
      fc.array(fc.nat(), { minLength: 14 }),
      (all, order) => {
        const claims = all.map((each) =>
          claim(each.author, each.number, each.holder, each.isForced)
        )
        const shuffled = claims
          .map((each, i) => ({ each, by: order[i] ?? 0 }))
          .toSorted((a, b) => a.by - b.by)
          .map(({ each }) => each)
        assert.deepEqual(leaseOf(shuffled, THREE), leaseOf(claims, THREE))
      }
    )
  )
})
