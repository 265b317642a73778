import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { spawn } from 'node:child_process'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { once } from 'node:events'
import { connect, Socket } from 'node:net'
import { join } from 'node:path'
import type { Duplex } from 'node:stream'
import { test, type TestContext } from 'node:test'
import { setTimeout } from 'node:timers/promises'
import type NoiseSecretStream from '@hyperswarm/secret-stream'
import { raw } from 'compact-encoding'
import DHT from 'hyperdht'
import Hyperswarm, { type Connection } from 'hyperswarm'
import Protomux from 'protomux'
import { z } from 'zod'
import { encodeOffer, type CarrierOffer } from '../../lib/format/carrier.js'
import { keyPairFrom, type KeyPair } from '../../lib/keys/identity.js'
import { Mirror } from '../../lib/log/mirror.js'
import { parseBootstrap } from '../../lib/swarm/dht.js'
import { Link } from '../../lib/swarm/link.js'
import { TcpCarrier } from '../../lib/swarm/tcp.js'
import { aKeyring, aLog, openStore } from '../log/stores.js'
import { eventually, testDht, TestHosts } from '../support/hosts.js'
import { onEnd } from '../support/on-end.js'
import { scratch } from '../support/scratch.js'

const LIMIT = { timeout: 60_000 }
const SIGNAL = new AbortController().signal
const DEAF = `
const server = require('node:net').createServer()
server.listen({ host: '127.0.0.1', port: 0, backlog: 1 }, () => {
  require('node:fs').writeSync(1, String(server.address().port))
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0)
})`

async function carrier(
  t: TestContext,
  keyPair = keyPairFrom(randomBytes(32))
): Promise<{ tcp: TcpCarrier; key: Buffer; port: number }> {
  const tcp = new TcpCarrier(keyPair, '127.0.0.1')
  onEnd(t, () => tcp.close())
  const port = await eventually(() => (tcp.port === 0 ? null : tcp.port), 'it listens')
  return { tcp, key: keyPair.publicKey, port }
}

/** A connection of which all that was answered is remembered. */
async function knock(t: TestContext, port: number): Promise<{ socket: Socket; heard: Buffer[] }> {
  const socket = connect({ host: '127.0.0.1', port })
  onEnd(t, () => void socket.destroy())
  socket.on('error', () => {})
  const heard: Buffer[] = []
  socket.on('data', (bytes: Buffer) => heard.push(bytes))
  await once(socket, 'connect')
  return { socket, heard }
}

test('two hosts meet by token and key, and what is sent arrives', LIMIT, async (t) => {
  const [here, there] = [await carrier(t), await carrier(t)]
  const token = randomBytes(32)
  const met = new Promise<NoiseSecretStream>((resolve) => {
    here.tcp.expect(token, { host: there.key, onStream: resolve })
  })
  const to = { address: '127.0.0.1', port: here.port, token, host: here.key }
  const dialed = await there.tcp.dial(to, SIGNAL)
  assert.ok(dialed)
  const accepted = await met
  assert.ok(accepted.remotePublicKey.equals(there.key))
  const message = randomBytes(3_000_000)
  dialed.write(message)
  const parts: Buffer[] = []
  for await (const part of accepted) {
    parts.push(Buffer.from(part))
    if (Buffer.concat(parts).byteLength === message.byteLength) break
  }
  assert.ok(Buffer.concat(parts).equals(message))
})

test('without a token that was given out there is no answer and no stream', LIMIT, async (t) => {
  const { tcp, port } = await carrier(t)
  let streams = 0
  tcp.expect(randomBytes(32), { host: randomBytes(32), onStream: () => streams++ })
  for (const said of [randomBytes(32), randomBytes(5_000), Buffer.alloc(32)]) {
    const { socket, heard } = await knock(t, port)
    socket.write(said)
    await once(socket, 'close')
    assert.equal(heard.length, 0)
  }
  assert.equal(streams, 0)
})

test('with the token and another key there is no stream', LIMIT, async (t) => {
  const [here, friend, thief] = [await carrier(t), await carrier(t), await carrier(t)]
  const token = randomBytes(32)
  let streams = 0
  here.tcp.expect(token, { host: friend.key, onStream: () => streams++ })
  const to = { address: '127.0.0.1', port: here.port, token, host: here.key }
  const stream = await thief.tcp.dial(to, SIGNAL)
  // The handshake itself is answered; after it the other side sees whose key it is, and ends.
  if (stream !== null) await once(stream, 'close')
  assert.equal(streams, 0)
  // And whoever answers with another key than the one that was asked for is no host of ours.
  assert.equal(await friend.tcp.dial({ ...to, host: thief.key }, SIGNAL), null)
  assert.equal(streams, 0)
})

test('a token that is no longer expected, and a closed port, are nobody', LIMIT, async (t) => {
  const [here, there] = [await carrier(t), await carrier(t)]
  const token = randomBytes(32)
  const stop = here.tcp.expect(token, { host: there.key, onStream: () => assert.fail('a stream') })
  stop()
  const to = { address: '127.0.0.1', port: here.port, token, host: here.key }
  assert.equal(await there.tcp.dial(to, SIGNAL), null)
  assert.equal(here.tcp.refused, 0)
  assert.equal(await there.tcp.dial({ ...to, token: randomBytes(32) }, SIGNAL), null)
  assert.equal(here.tcp.refused, 1)
  await here.tcp.close()
  assert.equal(await there.tcp.dial(to, SIGNAL), null)
})

test('many who say nothing are refused beyond a bound, and gone in time', LIMIT, async (t) => {
  const { tcp, port } = await carrier(t)
  const sockets: Socket[] = []
  for (let n = 0; n < 200; n++) sockets.push((await knock(t, port)).socket)
  const open = (): number => sockets.filter(({ closed }) => !closed).length
  await eventually(() => (open() <= 64 ? true : null), 'the rest is refused')
  await eventually(() => (open() === 0 ? true : null), 'they are let go', 15_000)
  await tcp.close()
})

/** Two hosts that share a parcel, and what the second sees of the first. */
async function pair(t: TestContext) {
  const hosts = await TestHosts.start(t)
  const [one, two] = [await hosts.create('one'), await hosts.create('two')]
  const folder = join(hosts.dir, 'folder')
  await mkdir(folder)
  await writeFile(join(folder, 'file'), 'first')
  await one.add(folder, { name: 'p', vm: 'folder' })
  await one.suspend('p')
  await two.join((await one.invite('p')).invite)
  const goesOver = (carrier: string): Promise<true> =>
    eventually(async () => {
      const peers = [...(await one.status('p')).peers, ...(await two.status('p')).peers]
      return peers.length === 2 && peers.every((peer) => peer.carrier === carrier) ? true : null
    }, `both go over ${carrier}`)
  const arrives = async (text: string): Promise<void> => {
    await writeFile(join(folder, 'file'), text)
    const { version } = await one.suspend('p')
    await eventually(async () => {
      const [head] = (await two.status('p')).heads
      return head?.id === version.id && head.isHere ? true : null
    }, `"${text}" is on the other host`)
    const { path } = await two.resume('p', { to: join(hosts.dir, 'to'), force: true })
    assert.equal(await readFile(join(path, 'file'), 'utf8'), text)
  }
  return { folder, goesOver, arrives }
}

test('logs go over TCP where it can be reached', LIMIT, async (t) => {
  const { goesOver, arrives } = await pair(t)
  await goesOver('tcp')
  await arrives('over TCP')
})

test('they go on over UDX when TCP breaks, and over TCP when it is back', LIMIT, async (t) => {
  const dialed = new Set<Socket>()
  const onSocket = (message: unknown): void => {
    const { socket } = z.object({ socket: z.instanceof(Socket) }).parse(message)
    dialed.add(socket)
  }
  subscribe('net.client.socket', onSocket)
  onEnd(t, () => void unsubscribe('net.client.socket', onSocket))
  const { folder, goesOver, arrives } = await pair(t)
  await goesOver('tcp')
  // In the middle of a transfer, too.
  await writeFile(join(folder, 'large'), randomBytes(48 * 1_048_576))
  const arriving = arrives('while it breaks')
  await setTimeout(300)
  assert.ok(dialed.size > 0)
  for (const socket of dialed) socket.destroy()
  await goesOver('udx')
  await arriving
  await goesOver('tcp')
  await arrives('after it is back')
})

/** A process that listens, and that neither takes nor answers a connection. Returns its port. */
async function deaf(t: TestContext): Promise<number> {
  const child = spawn(process.execPath, ['-e', DEAF], { stdio: ['ignore', 'pipe', 'inherit'] })
  onEnd(t, async () => {
    child.kill('SIGKILL')
    await once(child, 'exit')
  })
  const [port]: unknown[] = await once(child.stdout, 'data')
  return Number(port)
}

test('a dial ends where nobody speaks, and where nobody even answers', LIMIT, async (t) => {
  const [there, port] = [await carrier(t), await deaf(t)]
  const host = keyPairFrom(randomBytes(32)).publicKey
  const to = { address: '127.0.0.1', port, token: randomBytes(32), host }
  const end = new AbortController()
  onEnd(t, () => end.abort())
  // The system accepts it, in place of the process.
  assert.equal(await there.tcp.dial(to, end.signal), null)
  const queue = Array.from({ length: 8 }, () => connect({ host: '127.0.0.1', port }))
  for (const socket of queue) {
    onEnd(t, () => void socket.destroy())
    socket.on('error', () => {})
  }
  assert.equal(await there.tcp.dial(to, end.signal), null)
  assert.ok(queue.some(({ connecting }) => connecting))
})

interface End {
  keyPair: KeyPair
  connection: Connection
}

/** Both ends of a connection over a DHT; the first one's host is who dials. */
async function meet(t: TestContext): Promise<{ here: End; there: End }> {
  const bootstrap = parseBootstrap((await testDht(t)).address)
  const keyPairs = [randomBytes(32), randomBytes(32)].map(keyPairFrom)
  keyPairs.sort((a, b) => Buffer.compare(a.publicKey, b.publicKey))
  const ends = keyPairs.map((keyPair) => {
    const swarm = new Hyperswarm({ keyPair, dht: new DHT({ bootstrap, host: '127.0.0.1' }) })
    onEnd(t, () => swarm.destroy())
    const connected = new Promise<Connection>((resolve) => void swarm.once('connection', resolve))
    return { keyPair, swarm, connected }
  })
  const topic = randomBytes(32)
  // One after the other: who looks before the other has announced itself finds nobody.
  for (const { swarm } of ends) await swarm.join(topic, { server: true, client: true }).flushed()
  const [here, there] = await Promise.all(
    ends.map(async ({ keyPair, connected }) => {
      const connection = await connected
      connection.on('error', () => {})
      return { keyPair, connection }
    })
  )
  assert.ok(here && there)
  return { here, there }
}

/** The first end's link when the other makes an offer, and a log that is written here and copied there. */
async function linked(
  t: TestContext,
  { here, there }: { here: End; there: End },
  offer: CarrierOffer
) {
  let asked = 0
  const channel = Protomux.from(there.connection).createChannel({
    protocol: 'hyperparcel/carrier',
    handshake: raw,
    messages: [{ encoding: raw, onmessage: () => asked++ }],
    onopen: () => {},
    onclose: () => {}
  })
  channel?.open(encodeOffer(offer))
  const { tcp } = await carrier(t, here.keyPair)
  const link = new Link(here.connection, tcp)
  const isOver = (connection: Connection): Promise<true> =>
    eventually(() => (link.carrier === connection ? true : null), 'it is the connection')
  // Who cannot dial asks the other side to.
  const isInVain = (): Promise<true> =>
    eventually(() => (asked > 0 ? true : null), 'the dial has ended')

  const { log } = await aLog(t)
  const store = await openStore(t, join(await scratch(t), 'store'))
  const copy = await store.mirror('data', log.key, aKeyring())
  const mirror = new Mirror(copy)
  onEnd(t, () => mirror.close())
  const grows = async (): Promise<void> => {
    await log.append([[randomBytes(1_000)]])
    const isWhole = (): true | null => (copy.contiguousLength === log.length ? true : null)
    await eventually(isWhole, 'the copy is whole')
  }
  const replicate = async (remote: Duplex): Promise<void> => {
    assert.ok(link.carrier)
    log.replicate(link.carrier)
    copy.replicate(remote)
    await grows()
  }
  return { link, isOver, isInVain, replicate, grows }
}

test('where TCP is accepted and nothing is said, logs go over the connection', LIMIT, async (t) => {
  const [ends, port] = [await meet(t), await deaf(t)]
  const offer = { port, token: randomBytes(32) }
  const { isOver, isInVain, replicate, grows } = await linked(t, ends, offer)
  await isOver(ends.here.connection)
  await replicate(ends.there.connection)
  await isInVain()
  await isOver(ends.here.connection)
  await grows()
})

test('where TCP has ended for good, logs go on over the connection', LIMIT, async (t) => {
  const ends = await meet(t)
  const { tcp, port } = await carrier(t, ends.there.keyPair)
  const token = randomBytes(32)
  const met = new Promise<NoiseSecretStream>((resolve) => {
    tcp.expect(token, { host: ends.here.keyPair.publicKey, onStream: resolve })
  })
  const offer = { port, token }
  const { link, isOver, isInVain, replicate, grows } = await linked(t, ends, offer)
  const remote = await met
  await eventually(() => (link.carrierName === 'tcp' ? true : null), 'it is TCP')
  await replicate(remote)
  await tcp.close()
  await isOver(ends.here.connection)
  await replicate(ends.there.connection)
  await isInVain()
  await isOver(ends.here.connection)
  await grows()
})
