import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { test, type TestContext } from 'node:test'
import { setTimeout } from 'node:timers/promises'
import { z } from 'zod'
import { objects, Place, type User } from '../cli/place.js'
import { eventually } from '../support/hosts.js'
import { onEnd } from '../support/on-end.js'
import { TestNetwork } from './test-network.js'

const missing = TestNetwork.missing()
/** No DHT is there: nothing listens. */
const NOWHERE = { HYPERPARCEL_BOOTSTRAP: '10.99.0.1:1' }

const Peers = z.array(z.object({ name: z.string(), path: z.string(), carrier: z.string() }))
type Peer = z.infer<typeof Peers>[number]

/** Those that a host is connected with. */
async function peersOf(user: User): Promise<Peer[]> {
  const [info] = objects(await user.ok('status', 'work', '--json'))
  return Peers.parse(info?.['peers'])
}

function connected(user: User, what: string, limit?: number): Promise<Peer> {
  return eventually(async () => (await peersOf(user))[0] ?? null, what, limit)
}

function isHere(user: User, id: string): Promise<true> {
  return eventually(async () => {
    const versions = objects(await user.ok('log', 'work', '--json'))
    return versions.some((each) => each['id'] === id && each['isHere'] === true) || null
  }, 'all of a version')
}

/** Two hosts that share a folder, each in a namespace, on one switch and with no DHT. */
async function onOneSwitch(t: TestContext) {
  const place = await Place.make(t)
  await place.write('work/file', 'first')
  const desk = await place.host('desk')
  const laptop = await place.host('laptop')
  await desk.ok('add', place.path('work'), '--name', 'work', '--vm', 'folder')
  await desk.ok('suspend', 'work')
  const [invite] = objects(await desk.ok('invite', 'work', '--json'))
  await laptop.ok('join', String(invite?.['invite']))
  for (const user of [desk, laptop]) await user.ok('daemon', 'stop')

  const network = await TestNetwork.create({ mbit: 100, rttMs: 2 })
  onEnd(t, () => network.close())
  const [a, b] = (['a', 'b'] as const).map((side) => {
    const name = side === 'a' ? 'desk' : 'laptop'
    return place.user(name, { by: network.on(side), env: NOWHERE })
  })
  assert.ok(a !== undefined && b !== undefined)
  onEnd(t, async () => {
    for (const user of [a, b]) await user.run('daemon', 'stop')
  })
  for (const user of [a, b]) await user.ok('ls')
  return { place, network, a, b }
}

test(
  'two hosts on one switch, no DHT: they find each other, and again after the cable was out',
  { skip: missing ?? false, timeout: 180_000 },
  async (t) => {
    const { place, network, a, b } = await onOneSwitch(t)
    const peer = await connected(b, 'they meet', 15_000)
    assert.deepEqual([peer.name, peer.path, peer.carrier], ['desk', 'lan', 'tcp'])
    const suspend = async (): Promise<string> => {
      await place.write('work/file', randomBytes(300_000))
      const lines = objects(await a.ok('suspend', 'work', '--json'))
      return String(lines.find((each) => each['type'] === 'version')?.['id'])
    }
    await isHere(b, await suspend())

    // Out for long enough that a connection of the kernel's own would wait as long again.
    network.cut(true)
    const next = await suspend()
    await setTimeout(20_000)
    network.cut(false)
    const began = performance.now()
    await isHere(b, next)
    const ms = Math.round(performance.now() - began)
    t.diagnostic(`all was there ${ms} ms after the cable was in again`)
  }
)

test(
  'a host that slept, and one that comes back at another address, go on at once',
  { skip: missing ?? false, timeout: 180_000 },
  async (t) => {
    const { place, network, a, b } = await onOneSwitch(t)
    await connected(b, 'they meet', 15_000)
    const suspend = async (): Promise<string> => {
      await place.write('work/file', randomBytes(300_000))
      return String((await a.result('suspend', 'work'))['id'])
    }
    const pid = await b.daemonPid()
    // The lid is closed for longer than any connection is believed in.
    process.kill(pid, 'SIGSTOP')
    const slept = await suspend()
    await setTimeout(30_000)
    process.kill(pid, 'SIGCONT')
    let began = performance.now()
    await isHere(b, slept)
    t.diagnostic(`all was there ${Math.round(performance.now() - began)} ms after it woke`)

    network.down('b')
    const away = await suspend()
    await setTimeout(8_000)
    network.move('b', '10.77.0.77')
    began = performance.now()
    await isHere(b, away)
    t.diagnostic(`all was there ${Math.round(performance.now() - began)} ms after it had moved`)
  }
)

/** Prints what a sleeping machine's network card would hear. */
const LISTEN = `
  const socket = require('node:dgram').createSocket('udp4')
  socket.on('message', (bytes) => console.log(bytes.toString('hex')))
  socket.bind(9, () => console.log('listening'))
`

test(
  'who sleeps is woken by hand, and when something is suspended for it',
  { skip: missing ?? false, timeout: 120_000 },
  async (t) => {
    const { place, network, a, b } = await onOneSwitch(t)
    await connected(b, 'they meet', 15_000)
    await b.ok('daemon', 'stop')
    const [program, ...args] = [...network.on('b'), process.execPath, '-e', LISTEN]
    const listener = spawn(program, args)
    onEnd(t, async () => {
      const ended = once(listener, 'exit')
      listener.kill('SIGKILL')
      await ended
    })
    let heard = ''
    listener.stdout.setEncoding('latin1').on('data', (text: string) => (heard += text))
    const count = (): number => heard.split('\n').filter((line) => line === frame).length
    const frame = 'ff'.repeat(6) + '001122aabbcc'.repeat(16)
    await eventually(() => heard.includes('listening') || null, 'it listens')

    await a.fails(2, 'wake', 'laptop')
    await a.fails(2, 'wake', 'laptop', '00:11')
    assert.match(await a.ok('wake', 'laptop', '00-11-22-AA-BB-CC'), /woken at 00:11:22:aa:bb:cc/)
    assert.match(await a.ok('wake'), /laptop: 00:11:22:aa:bb:cc/)
    await a.ok('wake', 'laptop')
    await eventually(() => count() > 0 || null, 'the frame')
    const before = count()
    await place.write('work/file', 'next')
    await a.fails(5, 'suspend', 'work', '--to', 'laptop', '--wait', '3')
    assert.ok(count() > before, 'woken for what was suspended')
    await a.ok('wake', 'laptop', 'off')
    await a.fails(2, 'wake', 'laptop')
  }
)
