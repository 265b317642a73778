import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { test, type TestContext } from 'node:test'
import { z } from 'zod'
import { objects, Place, type User } from '../cli/place.js'
import { eventually } from '../support/hosts.js'
import { onEnd } from '../support/on-end.js'
import { Sites } from './sites.js'
import { TestNetwork } from './test-network.js'

const missing = TestNetwork.missing()
const wire = { mbit: 100, rttMs: 10, wall: true }

const Peers = z.array(
  z.object({ name: z.string(), path: z.string(), relayName: z.string().nullable() })
)

/** How a host reaches another one; null: not. */
async function wayTo(user: User, name: string): Promise<string | null> {
  const [info] = objects(await user.ok('status', 'work', '--json'))
  const peer = Peers.parse(info?.['peers']).find((each) => each.name === name)
  if (peer === undefined) return null
  return peer.relayName === null ? peer.path : `${peer.path} by ${peer.relayName}`
}

/** A DHT between all sites. */
async function dhtBetween(t: TestContext, place: Place, sites: Sites): Promise<string> {
  const core = place.user('core', { by: sites.between })
  const { command, env } = core.command('dht', '--host', sites.core, '--json')
  const [program = '', ...args] = command
  const child = spawn(program, args, { env, stdio: ['ignore', 'pipe', 'inherit'] })
  onEnd(t, async () => {
    const ended = once(child, 'exit')
    child.kill('SIGINT')
    await ended
  })
  const [line] = z.tuple([z.instanceof(Buffer)]).parse(await once(child.stdout, 'data'))
  return z.object({ bootstrap: z.string() }).parse(JSON.parse(line.toString())).bootstrap
}

test(
  'two hosts that do not reach each other go by way of a third that relays, and no more when it does not',
  { skip: missing ?? false, timeout: 180_000 },
  async (t) => {
    const place = await Place.make(t)
    await place.write('work/file', 'first')
    const users: User[] = []
    for (const name of ['desk', 'laptop', 'nas']) users.push(await place.host(name))
    const [first] = users
    assert.ok(first)
    await first.ok('add', place.path('work'), '--name', 'work', '--vm', 'folder')
    await first.ok('suspend', 'work')
    for (const user of users.slice(1)) {
      const [invite] = objects(await first.ok('invite', 'work', '--json'))
      await user.ok('join', String(invite?.['invite']))
    }
    for (const user of users) await user.ok('daemon', 'stop')

    const sites = await Sites.create([1, 1, 1].map((hosts) => ({ hosts, wire })))
    onEnd(t, () => sites.close())
    sites.part(0, 1)
    const bootstrap = await dhtBetween(t, place, sites)
    const env = { HYPERPARCEL_BOOTSTRAP: bootstrap }
    const [desk, laptop, nas] = ['desk', 'laptop', 'nas'].map((name, site) =>
      place.user(name, { by: sites.on(site, 0), env })
    )
    assert.ok(desk && laptop && nas)
    onEnd(t, async () => {
      for (const user of [desk, laptop, nas]) await user.run('daemon', 'stop')
    })
    // It has no room for blocks: what comes to the laptop comes from the desk.
    await nas.ok('unhoard', 'work')
    await nas.ok('limits', '--relay', 'on')
    for (const user of [desk, laptop]) {
      await eventually(async () => wayTo(user, 'nas'), 'the third one', 30_000)
    }
    const began = performance.now()
    await eventually(
      async () => (await wayTo(laptop, 'desk')) === 'relayed by nas' || null,
      'they meet',
      60_000
    )
    t.diagnostic(`after ${Math.round(performance.now() - began)} ms`)
    assert.equal(await wayTo(desk, 'laptop'), 'relayed by nas')
    assert.match(await laptop.ok('transfers'), /desk \(relayed by nas\)/)

    await place.write('work/file', randomBytes(3_000_000))
    const { id } = await desk.result('suspend', 'work')
    await eventually(async () => {
      const versions = objects(await laptop.ok('log', 'work', '--json'))
      return versions.some((each) => each['id'] === id && each['isHere'] === true) || null
    }, 'all of a version')

    // What costs here is not spent for others.
    await nas.ok('limits', '--metered', 'on')
    await eventually(async () => (await wayTo(laptop, 'desk')) === null || null, 'no way', 30_000)
  }
)
