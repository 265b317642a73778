import assert from 'node:assert/strict'
import { join } from 'node:path'
import { PassThrough } from 'node:stream'
import { test, type TestContext } from 'node:test'
import NoiseSecretStream from '@hyperswarm/secret-stream'
import type { Log } from '../../lib/log/log.js'
import { eventually } from '../support/hosts.js'
import { onEnd } from '../support/on-end.js'
import { scratch } from '../support/scratch.js'
import { aKeyring, aLog, openStore } from './stores.js'

const LIMIT = { timeout: 60_000 }
const BLOCKS = 40

/** Connects two ends of a log. Returns what holds back all that `from` sends from then on. */
function connect(t: TestContext, from: Log, to: Log): () => void {
  const a = new NoiseSecretStream(true)
  const b = new NoiseSecretStream(false)
  const gate = new PassThrough({ highWaterMark: 64 * 1_048_576 })
  a.rawStream.pipe(gate).pipe(b.rawStream).pipe(a.rawStream)
  for (const stream of [a, b]) stream.on('error', () => {})
  from.replicate(a)
  to.replicate(b)
  onEnd(t, () => {
    a.destroy()
    b.destroy()
  })
  return () => gate.unpipe()
}

test('who waits for a block does not wait for the slowest host that has it', LIMIT, async (t) => {
  const { log: own } = await aLog(t)
  await own.append(Array.from({ length: BLOCKS }, (_, n) => [Buffer.from(`block ${n + 1}`)]))
  const copy = async (name: string): Promise<Log> => {
    const store = await openStore(t, join(await scratch(t), name))
    return store.mirror('data', own.key, aKeyring())
  }
  const [slow, reader] = [await copy('slow'), await copy('reader')]
  connect(t, own, slow)
  await eventually(() => (slow.length === own.length ? true : null), 'the slow host knows of it')
  const all = Array.from({ length: own.length }, (_, n) => n)
  assert.equal(await slow.fetch(all).done, true)
  const mute = connect(t, slow, reader)
  connect(t, own, reader)
  const isReady = (): true | null =>
    reader.length === own.length && reader.peerCount === 2 ? true : null
  await eventually(isReady, 'two hosts are there')
  mute()
  let asked = 0
  slow.onTraffic(() => asked++)
  const never = new AbortController().signal
  for (let n = 1; n <= BLOCKS / 2; n++) {
    assert.equal((await reader.read(n, { wait: never })).toString(), `block ${n}`)
  }
  // One after the other, as what is wanted first is.
  for (let n = BLOCKS / 2 + 1; n <= BLOCKS; n++) assert.equal(await reader.fetch([n]).done, true)
  t.diagnostic(`the host that sends nothing was asked for ${asked} of ${BLOCKS} blocks`)
  assert.ok(asked <= 4, `${asked} blocks`)
})
