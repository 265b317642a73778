import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { cp, mkdir, open, readFile, writeFile } from 'node:fs/promises'
import { Socket } from 'node:net'
import { join } from 'node:path'
import { test, type TestContext } from 'node:test'
import { z } from 'zod'
import { chunkId } from '../../lib/chunk/id.js'
import { CHUNK_SIZE } from '../../lib/format/limits.js'
import { encodePackHeader } from '../../lib/format/pack.js'
import type { Host } from '../../lib/index.js'
import { inParcel } from '../parcel/parcels.js'
import { eventually, TestHosts } from '../support/hosts.js'
import { onEnd } from '../support/on-end.js'

const LIMIT = { timeout: 120_000 }
const SIZE = 24 * 1_048_576
const PACK = 1_048_576
const Message = z.object({ socket: z.instanceof(Socket) })

/** Bytes that came over TCP connections which this process has dialed or accepted since. */
function countTcp(t: TestContext): () => number {
  const sockets = new Set<Socket>()
  const onSocket = (message: unknown): void => void sockets.add(Message.parse(message).socket)
  for (const channel of ['net.client.socket', 'net.server.socket']) {
    subscribe(channel, onSocket)
    onEnd(t, () => void unsubscribe(channel, onSocket))
  }
  return () => [...sockets].reduce((sum, { bytesRead }) => sum + bytesRead, 0)
}

async function share(from: Host, to: Host, name: string, path: string): Promise<void> {
  await from.add(path, { name, vm: 'folder' })
  await to.join((await from.invite(name)).invite, { name })
  await eventually(async () => {
    const peers = [...(await from.status(name)).peers, ...(await to.status(name)).peers]
    return peers.length === 2 && peers.every(({ carrier }) => carrier === 'tcp') ? true : null
  }, 'both go over TCP')
}

async function send(from: Host, to: Host, name: string): Promise<void> {
  const { version } = await from.suspend(name)
  await eventually(async () => {
    const [head] = (await to.status(name)).heads
    return head?.id === version.id && head.isHere ? true : null
  }, `${name} is on the other host`)
}

/** Half of it does not compress. */
function image(): Buffer {
  const bytes = Buffer.alloc(SIZE, 'some words that compress; ')
  for (let at = 0; at < SIZE; at += 8_192) randomBytes(4_096).copy(bytes, at)
  return bytes
}

async function writeAt(path: string, at: number, bytes: Buffer): Promise<void> {
  const file = await open(path, 'r+')
  await file.write(bytes, 0, bytes.byteLength, at)
  await file.close()
}

test('a second parcel with the same contents costs little on the way', LIMIT, async (t) => {
  const tcp = countTcp(t)
  const hosts = await TestHosts.start(t)
  const [one, two] = [await hosts.create('one'), await hosts.create('two')]
  const [a, b] = [join(hosts.dir, 'a'), join(hosts.dir, 'b')]
  await mkdir(a)
  await writeFile(join(a, 'disk'), image())
  await share(one, two, 'a', a)
  await send(one, two, 'a')
  const first = tcp()
  assert.ok(first > SIZE / 2)

  // Its own copy, with a few changes: packs with one chunk in sixteen that nobody has.
  await cp(a, b, { recursive: true })
  for (let n = 0; n < 8; n++) await writeAt(join(b, 'disk'), n * 3_000_000, randomBytes(4_096))
  await share(one, two, 'b', b)
  await send(one, two, 'b')
  const second = tcp() - first
  assert.ok(second < first / 10, `${second} bytes after ${first}`)
  const { path } = await two.resume('b', { to: join(hosts.dir, 'copy') })
  assert.ok((await readFile(join(path, 'disk'))).equals(await readFile(join(b, 'disk'))))

  // And the third, made where both are, on its way back.
  const c = join(hosts.dir, 'c')
  await cp(path, c, { recursive: true })
  await share(two, one, 'c', c)
  await send(two, one, 'c')
  const third = tcp() - first - second
  assert.ok(third < first / 10, `${third} bytes after ${first}`)
})

test('contents that are new come as they are', LIMIT, async (t) => {
  const tcp = countTcp(t)
  const hosts = await TestHosts.start(t)
  const [one, two] = [await hosts.create('one'), await hosts.create('two')]
  const totals: number[] = []
  for (const name of ['a', 'b']) {
    const folder = join(hosts.dir, name)
    await mkdir(folder)
    await writeFile(join(folder, 'disk'), image())
    await share(one, two, name, folder)
    const before = tcp()
    await send(one, two, name)
    totals.push(tcp() - before)
    const { path } = await two.resume(name, { to: join(hosts.dir, `${name}-copy`) })
    assert.ok((await readFile(join(path, 'disk'))).equals(await readFile(join(folder, 'disk'))))
  }
  const [first = 0, second = 0] = totals
  assert.ok(second < first * 1.02, `${second} bytes after ${first}`)
})

test('packs that list ids which their bytes do not have do no harm', LIMIT, async (t) => {
  const hosts = await TestHosts.start(t)
  const [one, two] = [await hosts.create('one'), await hosts.create('two')]
  const [a, b] = [join(hosts.dir, 'a'), join(hosts.dir, 'b')]
  const bytes = image().subarray(0, 4 * PACK)
  for (const folder of [a, b]) await mkdir(folder)
  await share(one, two, 'a', a)
  await hosts.stop('one')
  await inParcel(hosts.home('one'), 'a', async (parcel) => {
    const data = parcel.logs().find(({ kind, isOwn }) => kind === 'data' && isOwn)
    assert.ok(data)
    for (let at = 0; at < bytes.byteLength; at += PACK) {
      const items = Array.from({ length: PACK / CHUNK_SIZE }, (_, n) => {
        const start = at + n * CHUNK_SIZE
        return { id: chunkId(bytes.subarray(start, start + CHUNK_SIZE)), length: CHUNK_SIZE }
      })
      await data.append([[encodePackHeader('chunks', 'none', items), randomBytes(PACK)]])
    }
  })
  // A version of the liar's, so that who continues it may refer to those packs.
  const again = await hosts.open('one')
  await send(again, two, 'a')
  const { path } = await two.resume('a', { to: join(hosts.dir, 'a-there') })

  await writeFile(join(b, 'disk'), bytes)
  await share(again, two, 'b', b)
  await send(again, two, 'b')
  const made = await two.resume('b', { to: join(hosts.dir, 'b-there') })
  assert.ok((await readFile(join(made.path, 'disk'))).equals(bytes))

  await writeFile(join(path, 'disk'), bytes)
  const { version } = await two.suspend('a')
  const copy = await two.resume('a', { version: version.id, to: join(hosts.dir, 'copy') })
  assert.ok((await readFile(join(copy.path, 'disk'))).equals(bytes))
})
