import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { ParcelError } from '../../lib/errors.js'
import { decodeOffer, encodeOffer } from '../../lib/format/carrier.js'
import {
  decodeAnswer,
  decodeQuestion,
  decodeRecipes,
  encodeItems,
  encodeQuestion,
  encodeRecipes,
  type Question,
  type Recipe
} from '../../lib/format/recipe.js'
import {
  decodeRemoteSuspend,
  encodeRemoteSuspend,
  type RemoteSuspendState
} from '../../lib/format/remote-suspend.js'
import { decodeStates, encodeStates, type SignedState } from '../../lib/format/signed-state.js'
import { record } from './arbitrary.js'

const bytes = (length: number): fc.Arbitrary<Buffer> =>
  fc.uint8Array({ minLength: length, maxLength: length }).map((all) => Buffer.from(all))
const index = fc.nat(2 ** 30)
const question: fc.Arbitrary<Question> = fc.oneof(
  record({
    kind: fc.constant('recipes' as const),
    core: bytes(32),
    blocks: fc.array(record({ index, nodes: fc.nat(64) }), { maxLength: 64 })
  }),
  record({
    kind: fc.constant('items' as const),
    core: bytes(32),
    blocks: fc.array(record({ index, ordinals: fc.array(fc.nat(16_383), { maxLength: 5 }) }), {
      maxLength: 64
    })
  }),
  record({ kind: fc.constant('records' as const), ids: fc.array(bytes(32), { maxLength: 64 }) }),
  record({
    kind: fc.constant('lease' as const),
    number: index,
    heads: fc.array(bytes(32), { maxLength: 64 }),
    voters: fc.array(bytes(32), { maxLength: 128 })
  }),
  record({ kind: fc.constant('held' as const), ids: fc.array(bytes(32), { maxLength: 64 }) }),
  record({ kind: fc.constant('suspend' as const), id: bytes(16), grace: fc.nat(3_600_000) }),
  record({
    kind: fc.constant('states' as const),
    logs: fc.array(record({ core: bytes(32), length: index }), { maxLength: 64 })
  })
)
const recipe: fc.Arbitrary<Recipe> = record({
  keyId: bytes(16),
  nonce: bytes(24),
  kind: fc.constantFrom('chunks', 'pages'),
  codec: fc.constantFrom('none', 'zstd'),
  items: fc.array(record({ id: bytes(32), length: fc.nat(65_536) }), {
    minLength: 1,
    maxLength: 16
  }),
  fork: fc.nat(9),
  proof: fc.array(record({ index, size: fc.nat(2 ** 30), hash: bytes(32) }), { maxLength: 9 })
})

const state: fc.Arbitrary<SignedState> = record({
  fork: fc.nat(9),
  length: index,
  roots: fc.array(record({ index, size: fc.nat(2 ** 30), hash: bytes(32) }), { maxLength: 48 }),
  signature: fc
    .uint8Array({ minLength: 0, maxLength: 128 })
    .map((signature) => Buffer.from(signature)),
  asked: bytes(32)
})

const remote: fc.Arbitrary<RemoteSuspendState> = fc.oneof(
  record({ state: fc.constant('waiting' as const), left: fc.nat(3_600_000) }),
  record({ state: fc.constant('suspending' as const) }),
  record({ state: fc.constant('done' as const), version: bytes(32) }),
  record({ state: fc.constant('failed' as const), code: fc.string({ maxLength: 16 }) })
)

test('questions, recipes, states and offers come back', () => {
  fc.assert(
    fc.property(remote, (answer) => {
      assert.deepEqual(decodeRemoteSuspend(encodeRemoteSuspend(answer)), answer)
    })
  )
  fc.assert(
    fc.property(fc.array(fc.option(state), { maxLength: 8 }), (states) => {
      assert.deepEqual(decodeStates(encodeStates(states)), states)
    }),
    { numRuns: 50 }
  )
  fc.assert(
    fc.property(fc.nat(), question, (number, asked) => {
      assert.deepEqual(decodeQuestion(encodeQuestion(number, asked)), { number, question: asked })
    })
  )
  fc.assert(
    fc.property(fc.nat(), fc.array(fc.option(recipe), { maxLength: 8 }), (number, recipes) => {
      const answer = decodeAnswer(encodeRecipes(number, recipes))
      assert.equal(answer.number, number)
      assert.deepEqual(decodeRecipes(answer.body), recipes)
    }),
    { numRuns: 50 }
  )
  fc.assert(
    fc.property(fc.nat(65_535), bytes(32), (port, token) => {
      assert.deepEqual(decodeOffer(encodeOffer({ port, token })), { port, token })
    })
  )
  const { number, body } = decodeAnswer(encodeItems(7, Buffer.from('frame')))
  assert.deepEqual([number, body.toString()], [7, 'frame'])
})

test('any other bytes are refused with INTEGRITY, and nothing else', () => {
  for (const decode of [decodeQuestion, decodeRecipes, decodeOffer, decodeAnswer]) {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (wrong) => {
        try {
          decode(wrong)
        } catch (error) {
          assert.ok(error instanceof ParcelError && error.code === 'INTEGRITY', String(error))
        }
      }),
      { numRuns: 500 }
    )
  }
})
