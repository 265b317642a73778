import assert from 'node:assert/strict'
import { join } from 'node:path'
import { PassThrough } from 'node:stream'
import { test, type TestContext } from 'node:test'
import NoiseSecretStream from '@hyperswarm/secret-stream'
import { Identity, type KeyPair } from '../../lib/keys/identity.js'
import type { Log } from '../../lib/log/log.js'
import { Mirror } from '../../lib/log/mirror.js'
import { eventually } from '../support/hosts.js'
import { onEnd } from '../support/on-end.js'
import { scratch } from '../support/scratch.js'
import { aKeyring, aLog, openStore } from './stores.js'

const LIMIT = { timeout: 90_000 }
const BLOCKS = 60

interface Copy {
  keys: KeyPair
  log: Log
  /** How many blocks came from each host, by key in hex. */
  came: Map<string, number>
}

function nameOf({ publicKey }: KeyPair): string {
  return publicKey.toString('hex')
}

/** A log of so many blocks, with its header, of one host, far from all others. */
async function aSource(t: TestContext): Promise<Pick<Copy, 'keys' | 'log'>> {
  const { log } = await aLog(t)
  await log.append(Array.from({ length: BLOCKS - 1 }, (_, n) => [Buffer.alloc(20_000, n)]))
  return { keys: Identity.create().keyPair, log }
}

/** An empty copy on a host to which all are near but one. */
async function aCopy(t: TestContext, far: Pick<Copy, 'keys' | 'log'>): Promise<Copy> {
  const store = await openStore(t, join(await scratch(t), 'store'))
  const log = await store.mirror('data', far.log.key, aKeyring())
  const { keyPair: keys } = Identity.create()
  log.shareWithNeighbours(nameOf(keys), (host) => host !== nameOf(far.keys))
  const came = new Map<string, number>()
  log.onTraffic((host, { received }) => {
    if (received > 0) came.set(host, (came.get(host) ?? 0) + 1)
  })
  return { keys, log, came }
}

/** Connects two hosts. Returns what holds back all that the first sends from then on. */
function connect(
  t: TestContext,
  from: Pick<Copy, 'keys' | 'log'>,
  to: Pick<Copy, 'keys' | 'log'>
): () => void {
  const a = new NoiseSecretStream(true, null, { keyPair: from.keys })
  const b = new NoiseSecretStream(false, null, { keyPair: to.keys })
  const gate = new PassThrough({ highWaterMark: 64 * 1_048_576 })
  a.rawStream.pipe(gate).pipe(b.rawStream).pipe(a.rawStream)
  for (const stream of [a, b]) stream.on('error', () => {})
  from.log.replicate(a)
  to.log.replicate(b)
  onEnd(t, () => {
    a.destroy()
    b.destroy()
  })
  return () => gate.unpipe()
}

function mirror(t: TestContext, { log }: Copy): void {
  const one = new Mirror(log)
  onEnd(t, () => one.close())
}

function whole({ log }: Copy): Promise<true> {
  return eventually(
    () => (log.length === BLOCKS && log.has(0, BLOCKS)) || null,
    'all of the log',
    30_000
  )
}

test('three hosts near each other fetch a log from afar about once', LIMIT, async (t) => {
  const source = await aSource(t)
  const copies: Copy[] = []
  for (let n = 0; n < 3; n++) {
    const copy = await aCopy(t, source)
    for (const other of copies) connect(t, other, copy)
    copies.push(copy)
  }
  await eventually(() => copies.every(({ log }) => log.peerCount === 2) || null, 'they have met')
  for (const copy of copies) connect(t, source, copy)
  for (const copy of copies) mirror(t, copy)
  await Promise.all(copies.map(whole))
  const far = copies.map(({ came }) => came.get(nameOf(source.keys)) ?? 0)
  t.diagnostic(`${far.join(' + ')} blocks of ${BLOCKS} came from afar`)
  const all = far.reduce((sum, each) => sum + each, 0)
  assert.ok(all <= BLOCKS * 1.2, `${all} blocks came from afar`)
  assert.ok(Math.min(...far) >= BLOCKS / 6, 'each has fetched a part')
})

test(
  'a neighbour that fetches nothing, or has all and sends nothing, holds nobody up',
  LIMIT,
  async (t) => {
    const source = await aSource(t)
    const idle = await aCopy(t, source)
    const reader = await aCopy(t, source)
    connect(t, idle, reader)
    connect(t, source, idle)
    connect(t, source, reader)
    mirror(t, reader)
    await whole(reader)

    const full = await aCopy(t, source)
    const other = await aCopy(t, source)
    connect(t, source, full)
    mirror(t, full)
    await whole(full)
    const mute = connect(t, full, other)
    await eventually(() => (other.log.length === BLOCKS ? true : null), 'it knows of the log')
    mute()
    connect(t, source, other)
    mirror(t, other)
    await whole(other)
  }
)

test('what is near is not fetched from afar', LIMIT, async (t) => {
  const source = await aSource(t)
  const full = await aCopy(t, source)
  connect(t, source, full)
  mirror(t, full)
  await whole(full)
  const reader = await aCopy(t, source)
  connect(t, full, reader)
  connect(t, source, reader)
  await eventually(() => (reader.log.peerCount === 2 ? true : null), 'both are there')
  mirror(t, reader)
  await whole(reader)
  const far = reader.came.get(nameOf(source.keys)) ?? 0
  assert.ok(far <= 4, `${far} blocks came from afar`)
})

test('of two sources one that is stuck is helped out by the other', LIMIT, async (t) => {
  const source = await aSource(t)
  const second = await aCopy(t, source)
  connect(t, source, second)
  mirror(t, second)
  await whole(second)
  const reader = await aCopy(t, source)
  // Both are far.
  const far = new Set([nameOf(source.keys), nameOf(second.keys)])
  const store = await openStore(t, join(await scratch(t), 'store'))
  const log = await store.mirror('data', source.log.key, aKeyring())
  log.shareWithNeighbours(nameOf(reader.keys), (host) => !far.has(host))
  const third = { ...reader, log }
  const mute = connect(t, second, third)
  connect(t, source, third)
  await eventually(() => (log.peerCount === 2 && log.length === BLOCKS) || null, 'both are there')
  mute()
  mirror(t, third)
  await whole(third)
})
