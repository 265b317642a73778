import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import type { CoreKind } from '../../lib/format/core-header.js'
import type { EpochKeys } from '../../lib/format/epoch-keys.js'
import { ENVELOPE_BYTES } from '../../lib/format/limits.js'
import { pad, unpad } from '../../lib/format/padding.js'
import { Identity, sealTo } from '../../lib/keys/identity.js'
import { Keyring } from '../../lib/keys/keyring.js'
import { refuses } from '../format/refuses.js'

const PARCEL = Buffer.alloc(32, 1)
const CORE = Buffer.alloc(32, 2)
const KINDS: CoreKind[] = ['control', 'meta', 'data']
const kind = fc.constantFrom(...KINDS)
const body = fc.uint8Array({ maxLength: 600 }).map((bytes) => Buffer.from(bytes))
const index = fc.oneof(fc.nat(10), fc.maxSafeNat())

function keys(epoch: number): EpochKeys {
  const record = epoch === 0 ? null : Buffer.alloc(32, epoch)
  const secrets = {
    epochKey: Buffer.alloc(32, 10 + epoch),
    controlKey: Buffer.alloc(32, 90 + epoch)
  }
  return { epoch, record, ...secrets }
}

function seal(ring: Keyring, what: CoreKind, at: number, text: Buffer): Buffer {
  return ring.seal(what, CORE, at, pad([text], ENVELOPE_BYTES))
}

test('a sealed block opens to its body, and says nothing of it', () => {
  const ring = new Keyring(PARCEL, [keys(0)])
  fc.assert(
    fc.property(kind, index, body, (what, at, text) => {
      const block = seal(ring, what, at, text)
      assert.deepEqual(unpad(ring.open(CORE, at, block)), text)
      if (text.byteLength > 16) assert.ok(!block.includes(text))
      assert.notDeepEqual(seal(ring, what, at, text), block)
    })
  )
})

test('a block moved to another index or another core does not open', () => {
  const ring = new Keyring(PARCEL, [keys(0)])
  fc.assert(
    fc.property(kind, index, index, body, (what, at, other, text) => {
      const block = seal(ring, what, at, text)
      if (other !== at) refuses('INTEGRITY', () => ring.open(CORE, other, block))
      refuses('INTEGRITY', () => ring.open(Buffer.alloc(32, 3), at, block))
    })
  )
})

test('a block with any bit flipped does not open', () => {
  const ring = new Keyring(PARCEL, [keys(0)])
  const block = seal(ring, 'data', 5, Buffer.from('a body of some length'))
  const fields = { format: 0, id: 1, nonce: 17, tag: 41, ciphertext: 57 }
  for (let bit = 0; bit < block.byteLength * 8; bit++) {
    const flipped = Buffer.from(block)
    const at = bit >> 3
    flipped[at] = (flipped[at] ?? 0) ^ (1 << (bit & 7))
    // A format of 0 cannot be reached from 1 and another bit; any other is a newer one.
    if (at === fields.format) {
      refuses(bit === 0 ? 'INTEGRITY' : 'NEWER_FORMAT', () => ring.open(CORE, 5, flipped))
    } else {
      const code = at < fields.nonce ? 'BAD_KEY' : 'INTEGRITY'
      refuses(code, () => ring.open(CORE, 5, flipped), `bit ${bit}`)
    }
  }
})

test('a block cut short, or longer than it was, does not open', () => {
  const ring = new Keyring(PARCEL, [keys(0)])
  const block = seal(ring, 'meta', 0, Buffer.from('a body'))
  for (let end = 0; end < block.byteLength; end++) {
    refuses('INTEGRITY', () => ring.open(CORE, 0, block.subarray(0, end)), `cut at ${end}`)
  }
  refuses('INTEGRITY', () => ring.open(CORE, 0, Buffer.concat([block, Buffer.alloc(1)])))
})

test('each kind of log and each parcel has keys of its own', () => {
  const ring = new Keyring(PARCEL, [keys(0)])
  const other = new Keyring(Buffer.alloc(32, 9), [keys(0)])
  const ids = new Set<string>()
  for (const each of [ring, other]) {
    for (const what of KINDS) {
      const block = seal(each, what, 0, Buffer.alloc(0))
      ids.add(block.toString('hex', 1, 17))
      refuses('BAD_KEY', () => (each === ring ? other : ring).open(CORE, 0, block))
    }
  }
  assert.equal(ids.size, 6)
})

test('a block whose key id is replaced by another known one does not open', () => {
  const ring = new Keyring(PARCEL, [keys(0), keys(1)])
  const block = seal(ring, 'data', 0, Buffer.from('body'))
  for (const what of KINDS) {
    const id = seal(new Keyring(PARCEL, [keys(0)]), what, 0, Buffer.alloc(0)).subarray(1, 17)
    const changed = Buffer.from(block)
    changed.set(id, 1)
    refuses('INTEGRITY', () => ring.open(CORE, 0, changed))
  }
})

test('old epochs still open after a new one, and only the new one seals', () => {
  const ring = new Keyring(PARCEL, [keys(0)])
  const old = KINDS.map((what) => seal(ring, what, 3, Buffer.from(`old ${what}`)))
  ring.add(keys(1))
  assert.equal(ring.current.epoch, 0)
  ring.use(keys(1).record)
  const alone = new Keyring(PARCEL, [keys(0)])
  for (const [i, what] of KINDS.entries()) {
    const block = old[i]
    assert.ok(block !== undefined)
    assert.deepEqual(unpad(ring.open(CORE, 3, block)), Buffer.from(`old ${what}`))
    refuses('BAD_KEY', () => alone.open(CORE, 3, seal(ring, what, 3, Buffer.alloc(0))))
  }
  assert.equal(ring.current.epoch, 1)
  const topic = ring.topic()
  ring.add(keys(0))
  assert.equal(ring.current.epoch, 1)
  assert.deepEqual(ring.topic(), topic)
  refuses('BAD_KEY', () => alone.open(CORE, 0, seal(ring, 'data', 0, Buffer.alloc(0))))
})

test('a vault seals and opens control blocks alone', () => {
  const vault = new Keyring(PARCEL, [{ ...keys(0), epochKey: null }])
  const member = new Keyring(PARCEL, [keys(0)])
  const record = seal(vault, 'control', 1, Buffer.from('receipt'))
  assert.deepEqual(unpad(member.open(CORE, 1, record)), Buffer.from('receipt'))
  for (const what of ['meta', 'data'] as const) {
    refuses('BAD_KEY', () => seal(vault, what, 0, Buffer.alloc(0)))
    refuses('BAD_KEY', () => vault.open(CORE, 0, seal(member, what, 0, Buffer.alloc(0))))
  }
})

test('who has only the control key of the newest epoch does not write under an older one', () => {
  const ring = new Keyring(PARCEL, [keys(0)])
  const old = seal(ring, 'data', 0, Buffer.from('old'))
  ring.use(keys(1).record)
  // Nor before it has any; but for control records, which can say that something is wrong.
  for (const what of ['data', 'meta'] as const) {
    refuses('BAD_KEY', () => seal(ring, what, 0, Buffer.alloc(0)))
  }
  const said = seal(ring, 'control', 0, Buffer.from('said'))
  const before = new Keyring(PARCEL, [keys(0)])
  assert.deepEqual(unpad(before.open(CORE, 0, said)), Buffer.from('said'))
  assert.equal(ring.isCurrent, false)
  ring.add({ ...keys(1), epochKey: null })
  refuses('BAD_KEY', () => seal(ring, 'data', 0, Buffer.alloc(0)))
  refuses('BAD_KEY', () => seal(ring, 'meta', 0, Buffer.alloc(0)))
  assert.deepEqual(unpad(ring.open(CORE, 0, old)), Buffer.from('old'))
  ring.add(keys(1))
  const block = seal(ring, 'data', 0, Buffer.from('new'))
  assert.deepEqual(unpad(new Keyring(PARCEL, [keys(1)]).open(CORE, 0, block)), Buffer.from('new'))
})

test('what is sealed to a host opens for that host alone', () => {
  const host = Identity.create()
  fc.assert(
    fc.property(body, fc.nat(), (text, at) => {
      const sealed = sealTo(host.publicKey, text)
      assert.deepEqual(host.unseal(sealed), text)
      assert.deepEqual(Identity.import(host.export()).unseal(sealed), text)
      assert.equal(Identity.create().unseal(sealed), null)
      const flipped = Buffer.from(sealed)
      const index = at % flipped.byteLength
      flipped[index] = (flipped[index] ?? 0) ^ 1
      assert.equal(host.unseal(flipped), null)
      assert.equal(host.unseal(sealed.subarray(0, index)), null)
    }),
    { numRuns: 30 }
  )
})
