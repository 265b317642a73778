import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { cp, readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import Corestore from 'corestore'
import * as fc from 'fast-check'
import CoreStorage from 'hypercore-storage'
import { ENVELOPE_BYTES } from '../../lib/format/limits.js'
import { pad } from '../../lib/format/padding.js'
import { Store } from '../../lib/log/store.js'
import { scratch } from '../support/scratch.js'
import { aKeyPair, aKeyring, aLog, connect, openStore } from './stores.js'

test('bodies of any size and number of parts come back, and a reopened store goes on', async (t) => {
  const dir = join(await scratch(t), 'store')
  const keyPair = aKeyPair()
  const size = fc.oneof(fc.nat(600), fc.constantFrom(0, 8_188, 8_189, 1_048_576))
  const batch = fc.array(fc.array(size, { maxLength: 3 }), { minLength: 1, maxLength: 4 })
  const expected: Buffer[] = []
  await fc.assert(
    fc.asyncProperty(fc.array(batch, { maxLength: 4 }), async (batches) => {
      const store = await Store.open(dir)
      try {
        const log = await store.own('data', keyPair, aKeyring())
        assert.equal(log.length, expected.length)
        for (const sizes of batches) {
          const bodies = sizes.map((parts) => parts.map((length) => randomBytes(length)))
          assert.equal(await log.append(bodies), expected.length)
          expected.push(...bodies.map((parts) => Buffer.concat(parts)))
        }
        for (const [i, body] of expected.entries()) assert.ok(body.equals(await log.read(i)))
        assert.equal(log.contiguousLength, expected.length)
      } finally {
        await store.close()
      }
    }),
    { numRuns: 15 }
  )
})

test('appends from many callers at once each get blocks of their own, in order', async (t) => {
  const { log } = await aLog(t)
  const callers = ['a', 'b', 'c'].map(async (who) => {
    const firsts: number[] = []
    for (let n = 0; n < 12; n++) {
      const bodies = Array.from({ length: 1 + (n % 3) }, (_, i) => [Buffer.from(`${who}${n}.${i}`)])
      firsts.push(await log.append(bodies))
    }
    return { who, firsts }
  })
  const burst = await Promise.all(
    Array.from({ length: 10 }, (_, n) => log.append([[Buffer.from(`x${n}`)]]))
  )
  assert.deepEqual(
    burst,
    burst.toSorted((a, b) => a - b)
  )
  for (const { who, firsts } of await Promise.all(callers)) {
    assert.deepEqual(
      firsts,
      firsts.toSorted((a, b) => a - b)
    )
    for (const [n, first] of firsts.entries()) {
      for (let i = 0; i < 1 + (n % 3); i++) {
        assert.equal((await log.read(first + i)).toString(), `${who}${n}.${i}`)
      }
    }
  }
  assert.equal(log.length, 1 + 10 + 3 * 24)
})

test('a block that is not here is UNREACHABLE, not waited for', async (t) => {
  const { log, store } = await aLog(t)
  await assert.rejects(log.read(5), { code: 'UNREACHABLE' })
  const other = await store.mirror('data', Buffer.alloc(32, 9), aKeyring())
  await assert.rejects(other.read(0), { code: 'UNREACHABLE' })
  assert.equal(other.isOwn, false)
  await assert.rejects(other.append([[Buffer.from('x')]]), { code: 'FAILED' })
  assert.equal(other.length, 0)
})

test('a block that was moved, flipped or not sealed is refused', async (t) => {
  const dir = join(await scratch(t), 'store')
  const keyPair = aKeyPair()
  const manifest = { version: 1, signers: [{ publicKey: keyPair.publicKey }] }
  // What a dishonest writer could do: blocks appended past Log, with valid signatures.
  const cores = new Corestore(new CoreStorage(dir, { blobGarbageCollectionAgeCutOff: 0 }))
  const core = cores.get({ manifest })
  await core.ready()
  const ring = aKeyring()
  const seal = (index: number, key = core.key): Buffer =>
    ring.seal('data', key, index, pad([Buffer.from('body')], ENVELOPE_BYTES))
  const flip = (index: number, at: number): Buffer => {
    const block = seal(index)
    block[at] = (block[at] ?? 0) ^ 1
    return block
  }
  const INTEGRITY = 'INTEGRITY'
  const wrong: [block: Buffer, code: string][] = [
    [seal(0), INTEGRITY],
    [seal(2, Buffer.alloc(32)), INTEGRITY],
    [flip(3, 0), INTEGRITY],
    [flip(4, 1), 'BAD_KEY'],
    [flip(5, 17), INTEGRITY],
    [flip(6, 41), INTEGRITY],
    [flip(7, ENVELOPE_BYTES), INTEGRITY],
    [flip(8, seal(8).byteLength - 1), INTEGRITY],
    [pad([Buffer.from('')], 0), INTEGRITY],
    [pad([Buffer.from('body')], 0), 'NEWER_FORMAT'],
    [Buffer.alloc(0), INTEGRITY]
  ]
  await core.append([seal(0), ...wrong.map(([block]) => block)], { keyPair })
  await cores.close()

  const store = await openStore(t, dir)
  const log = await store.own('data', keyPair, aKeyring())
  assert.equal(log.length, 1 + wrong.length)
  assert.equal((await log.read(0)).toString(), 'body')
  for (const [n, [, code]] of wrong.entries()) {
    await assert.rejects(log.read(1 + n), { code }, `block ${1 + n}`)
  }
})

test('head names the state at a length, now and after reopening', async (t) => {
  const { dir, store, log, keyPair } = await aLog(t)
  await log.append(Array.from({ length: 9 }, (_, n) => [Buffer.from(`${n}`)]))
  const heads = await Promise.all([1, 5, 10].map((length) => log.head(length)))
  assert.equal(new Set(heads.map(({ treeHash }) => treeHash.toString('hex'))).size, 3)
  assert.deepEqual(await log.head(), heads[2])
  await store.flush()
  await store.close()
  const again = await openStore(t, dir)
  const reopened = await again.own('data', keyPair, aKeyring())
  assert.deepEqual(await Promise.all([1, 5, 10].map((length) => reopened.head(length))), heads)
})

test('nothing is appended to a log of which a peer has more than its writer', async (t) => {
  const { dir, store, log, keyPair } = await aLog(t, 'meta')
  const isData = (path: string): boolean => !path.endsWith('/CORESTORE')
  await store.flush()
  await store.close()
  const copy = join(await scratch(t), 'copy')
  await cp(dir, copy, { recursive: true, filter: isData })

  const written = await openStore(t, dir)
  const before = await written.own('meta', keyPair, aKeyring())
  await before.append([[Buffer.from('one')], [Buffer.from('two')]])
  const peer = await openStore(t, join(await scratch(t), 'peer'))
  const mirror = await peer.mirror('meta', log.key, aKeyring())
  const cut = connect(t, [before], [mirror])
  const isThere = new AbortController()
  for (const index of [0, 1, 2]) await mirror.read(index, { wait: isThere.signal })
  cut()
  await written.flush()
  await written.close()

  for (const name of await readdir(dir)) {
    if (name !== 'CORESTORE') await rm(join(dir, name), { recursive: true })
  }
  await cp(copy, dir, { recursive: true })
  const putBack = await openStore(t, dir)
  const again = await putBack.own('meta', keyPair, aKeyring())
  assert.deepEqual([again.length, again.isContinuedElsewhere], [1, false])
  const grown = new Promise<void>((resolve) => again.onAppend(resolve))
  connect(t, [again], [mirror])
  await grown
  assert.deepEqual([again.length, again.isContinuedElsewhere], [3, true])
  await assert.rejects(again.append([[Buffer.from('other')]]), { code: 'FAILED' })
  assert.deepEqual([again.length, mirror.length], [3, 3])
})
