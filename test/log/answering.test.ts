import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { join } from 'node:path'
import { PassThrough } from 'node:stream'
import { test, type TestContext } from 'node:test'
import { setTimeout } from 'node:timers/promises'
import NoiseSecretStream from '@hyperswarm/secret-stream'
import Hypercore, { type Peer } from 'hypercore'
import { Identity } from '../../lib/keys/identity.js'
import type { Log } from '../../lib/log/log.js'
import { watchManners } from '../../lib/swarm/manners.js'
import { eventually } from '../support/hosts.js'
import { onEnd } from '../support/on-end.js'
import { scratch } from '../support/scratch.js'
import { aKeyring, aLog, openStore } from './stores.js'

const [BLOCKS, SIZE] = [64, 1_000_000]

/** A host's log, and the peer of one that is about to ask for more of it than can be meant. */
async function setting(t: TestContext) {
  const { log } = await aLog(t)
  await log.append(Array.from({ length: BLOCKS }, () => [randomBytes(SIZE)]))
  log.limitSending((_, send) => send())
  const [a, b] = [true, false].map((isInitiator) => {
    const { keyPair } = Identity.create()
    const stream = new NoiseSecretStream(isInitiator, null, { keyPair })
    stream.on('error', () => {})
    return stream
  })
  assert.ok(a && b)
  const held = new PassThrough({ highWaterMark: 16_384 })
  a.rawStream.pipe(held)
  b.rawStream.pipe(a.rawStream)
  const told: string[] = []
  watchManners(a, (what) => {
    told.push(what)
    a.destroy()
  })
  const greedy = new Hypercore(join(await scratch(t), 'greedy'), log.key)
  await greedy.ready()
  onEnd(t, () => greedy.close())
  log.replicate(a)
  held.pipe(b.rawStream)
  greedy.replicate(b)
  const peer = await eventually(() => greedy.peers[0] ?? null, 'they have met')
  await eventually(() => (greedy.length > BLOCKS ? true : null), 'it knows the log')
  return { log, told, peer, stopReading: () => held.unpipe() }
}

function ask(log: Log, peer: Peer, count: number): void {
  for (let id = 1; id <= count; id++) {
    const block = { index: 1 + (id % BLOCKS), nodes: 0 }
    const rest = { hash: null, seek: null, upgrade: null, manifest: false, priority: 0 }
    peer.wireRequest.send({ id: 1_000 + id, fork: 0, block, ...rest })
  }
  assert.ok(log.length > BLOCKS)
}

test('who asks for all at once and reads nothing has a few blocks of it in our memory', async (t) => {
  const { log, peer, told, stopReading } = await setting(t)
  stopReading()
  const before = process.memoryUsage().arrayBuffers
  ask(log, peer, 2_000)
  await setTimeout(1_500)
  const grown = process.memoryUsage().arrayBuffers - before
  assert.ok(grown < 100 * SIZE, `${grown} bytes more`)
  assert.deepEqual(told, [])
})

test('who asks for more than any host would is shown out', async (t) => {
  const { log, peer, told } = await setting(t)
  ask(log, peer, 40_000)
  await eventually(() => (told.length > 0 ? true : null), 'it is reported')
  assert.deepEqual(told, ['asked for everything at once'])
})

test('records wait for no limit, whatever blocks of the same host do', async (t) => {
  const [{ log: data }, { log: meta }] = [await aLog(t), await aLog(t, 'meta')]
  await data.append(Array.from({ length: 100 }, () => [randomBytes(100)]))
  await meta.append(Array.from({ length: 100 }, () => [randomBytes(100)]))
  let held = 0
  for (const log of [data, meta]) {
    log.limitSending(() => {
      held++
      return new Promise(() => {})
    })
  }
  const store = await openStore(t, join(await scratch(t), 'copy'))
  const [blocks, records] = [
    await store.mirror('data', data.key, aKeyring()),
    await store.mirror('meta', meta.key, aKeyring())
  ]
  const [a, b] = [new NoiseSecretStream(true), new NoiseSecretStream(false)]
  for (const stream of [a, b]) stream.on('error', () => {})
  a.rawStream.pipe(b.rawStream).pipe(a.rawStream)
  onEnd(t, () => {
    for (const stream of [a, b]) stream.destroy()
  })
  for (const log of [data, meta]) log.replicate(a)
  for (const log of [blocks, records]) log.replicate(b)
  void blocks.fetch(Array.from({ length: 101 }, (_, n) => n))
  await eventually(() => held > 20 || null, 'blocks wait')
  const { done } = records.fetch(Array.from({ length: 101 }, (_, n) => n))
  assert.equal(await done, true)
  assert.equal(blocks.count(blocks.length), 0)
})
