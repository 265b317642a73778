import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test, type TestContext } from 'node:test'
import { raw } from 'compact-encoding'
import DHT from 'hyperdht'
import Hyperswarm, { type Connection } from 'hyperswarm'
import Protomux from 'protomux'
import { encodeHello } from '../../lib/format/wire.js'
import type { Host } from '../../lib/index.js'
import { channelId, PROTOCOL } from '../../lib/swarm/channel.js'
import { parseBootstrap } from '../../lib/swarm/dht.js'
import { eventually, TestHosts } from '../support/hosts.js'
import { onEnd } from '../support/on-end.js'

const LIMIT = { timeout: 90_000 }

/** An owner, a member that behaves, and the connection of one that is about not to. */
async function setting(t: TestContext) {
  const hosts = await TestHosts.start(t)
  const owner = await hosts.create('owner')
  const folder = join(hosts.dir, 'folder')
  await mkdir(folder)
  await writeFile(join(folder, 'file'), 'one')
  await owner.add(folder, { name: 'p', vm: 'folder' })
  await owner.suspend('p')
  const friend = await hosts.create('friend')
  await friend.join((await owner.invite('p')).invite)
  const rude = await hosts.create('rude')
  const { id } = await rude.join((await owner.invite('p')).invite)
  await eventually(async () => (await rude.status('p')).heads[0]?.isHere || null, 'it is a member')
  const { keyPair } = rude.home.identity
  await hosts.stop('rude')
  // The owner may connect at the same time, and one of the two is dropped: it is rude on each.
  const connect = (act: (connection: Connection) => void): void => {
    const bootstrap = parseBootstrap(hosts.dht.address)
    const swarm = new Hyperswarm({ keyPair, dht: new DHT({ bootstrap, host: '127.0.0.1' }) })
    onEnd(t, () => swarm.destroy())
    swarm.on('connection', (connection) => {
      connection.on('error', () => {})
      act(connection)
    })
    swarm.joinPeer(Buffer.from(owner.id, 'hex'))
  }
  return { owner, friend, folder, parcel: Buffer.from(id, 'hex'), connect }
}

/** What is stored after it reaches the member that behaves. */
async function goesOn(owner: Host, friend: Host, folder: string): Promise<void> {
  const mark = randomBytes(8).toString('hex')
  await writeFile(join(folder, 'file'), mark)
  await owner.suspend('p', { message: mark })
  await eventually(async () => {
    const [head] = (await friend.status('p')).heads
    return (head?.message === mark && head.isHere) || null
  }, 'the other member has it')
}

async function problem(owner: Host, text: RegExp): Promise<void> {
  await eventually(async () => {
    const { problems } = await owner.status('p')
    return problems.some((line) => line.startsWith('rude: ') && text.test(line)) || null
  }, `${text.source} in the status`)
}

for (const [protocol, count] of [
  [PROTOCOL, 2_000],
  ['hypercore/alpha', 10_000]
] as const) {
  test(
    `a member that opens ${count} channels of ${protocol} that nobody knows`,
    LIMIT,
    async (t) => {
      const { owner, friend, folder, connect } = await setting(t)
      connect((connection) => {
        const mux = Protomux.from(connection)
        for (let n = 0; n < count; n++) {
          const channel = mux.createChannel({
            protocol,
            id: randomBytes(32),
            handshake: raw,
            messages: [],
            onopen: () => {},
            onclose: () => {}
          })
          channel?.open(Buffer.alloc(0))
        }
      })
      await problem(owner, /opened more than \d+ channels/)
      await goesOn(owner, friend, folder)
    }
  )
}

test(
  'a member that sends an announcement, heads and questions that are too long',
  LIMIT,
  async (t) => {
    for (const [type, size] of [
      [0, 20_000],
      [1, 9_000_000],
      [2, 4_000_000]
    ] as const) {
      const { owner, friend, folder, connect, parcel } = await setting(t)
      connect((connection) => {
        const channel = Protomux.from(connection).createChannel({
          protocol: PROTOCOL,
          id: channelId(parcel),
          handshake: raw,
          messages: Array.from({ length: 4 }, () => ({ encoding: raw, onmessage: () => {} })),
          onopen: () => channel?.messages[type]?.send(Buffer.alloc(size, 0xfe)),
          onclose: () => {}
        })
        channel?.open(encodeHello({ min: 1, max: 1, software: 'rude' }))
      })
      await problem(owner, /./)
      await goesOn(owner, friend, folder)
    }
  }
)

test(
  'a member that sends a frame of 16 MB byte by byte, and one that sends noise',
  LIMIT,
  async (t) => {
    const { owner, friend, folder, connect } = await setting(t)
    const streams: Connection['rawStream'][] = []
    connect(({ rawStream }) => {
      rawStream.write(Buffer.from([0xff, 0xff, 0xff]))
      streams.push(rawStream)
    })
    const send = (bytes: Buffer): void => {
      for (const stream of streams) if (!stream.destroyed) stream.write(bytes)
    }
    const timer = setInterval(() => send(Buffer.alloc(1)), 20)
    onEnd(t, () => clearInterval(timer))
    await eventually(() => (streams.length > 0 ? true : null), 'a connection')
    const before = process.memoryUsage().arrayBuffers
    await goesOn(owner, friend, folder)
    await goesOn(owner, friend, folder)
    assert.ok(process.memoryUsage().arrayBuffers - before < 64 << 20)
    clearInterval(timer)
    send(Buffer.alloc(0xffffff))
    await goesOn(owner, friend, folder)
  }
)
