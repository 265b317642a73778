import assert from 'node:assert/strict'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import DHT from 'hyperdht'
import Hyperswarm from 'hyperswarm'
import { keyPairFrom, randomBytes } from '../../lib/keys/identity.js'
import { openHome } from '../../lib/index.js'
import { Keyring } from '../../lib/keys/keyring.js'
import { epochKeysOf, loadStates } from '../../lib/parcel/local-state.js'
import { parseBootstrap } from '../../lib/swarm/dht.js'
import { eventually, TestHosts } from '../support/hosts.js'
import { onEnd } from '../support/on-end.js'

async function parcelOn(hosts: TestHosts, name: string) {
  const folder = join(hosts.dir, `${name}-folder`)
  await mkdir(folder)
  await writeFile(join(folder, 'a.txt'), name)
  const host = await hosts.create(name)
  await host.add(folder, { name, vm: 'folder' })
  await host.suspend(name)
  return host
}

/** The topic of a parcel, which a thief of one home could know. */
async function topicOf(home: string): Promise<Buffer> {
  const { identity } = await openHome(home)
  const [state] = await loadStates(join(home, 'parcels'), identity.atRest)
  assert.ok(state)
  return new Keyring(Buffer.from(state.parcel, 'hex'), epochKeysOf(state)).topic()
}

test('a stranger who knows topic and key of a host gets no stream', async (t) => {
  const hosts = await TestHosts.start(t)
  const owner = await parcelOn(hosts, 'owner')
  const topic = await topicOf(hosts.home('owner'))
  const bootstrap = parseBootstrap(hosts.dht.address)
  const stranger = new Hyperswarm({
    keyPair: keyPairFrom(randomBytes(32)),
    dht: new DHT({ bootstrap, host: '127.0.0.1' })
  })
  onEnd(t, () => stranger.destroy())
  let connections = 0
  stranger.on('connection', (connection) => {
    connections++
    connection.on('error', () => {})
  })
  stranger.joinPeer(Buffer.from(owner.id, 'hex'))
  await stranger.join(topic, { server: true, client: true }).flushed()
  await eventually(() => (owner.refused > 0 ? true : null), 'the stranger was refused')
  assert.equal(connections, 0)

  // Whoever is let in later is not held against what came before.
  const friend = await hosts.create('friend')
  await friend.join((await owner.invite('owner')).invite)
  await friend.resume('owner', { to: join(hosts.dir, 'to') })
  assert.equal(connections, 0)
})

test('a member of one parcel gets nothing of another', async (t) => {
  const hosts = await TestHosts.start(t)
  const owner = await parcelOn(hosts, 'shared')
  const secret = join(hosts.dir, 'secret')
  await mkdir(secret)
  await writeFile(join(secret, 'b.txt'), 'b')
  await owner.add(secret, { name: 'secret', vm: 'folder' })
  await owner.suspend('secret')
  const member = await hosts.create('member')
  await member.join((await owner.invite('shared')).invite)
  await member.resume('shared', { to: join(hosts.dir, 'to') })
  assert.deepEqual(
    (await member.list()).map(({ name }) => name),
    ['shared']
  )
  assert.deepEqual((await owner.status('secret')).peers, [])
  await assert.rejects(async () => member.resume('secret'), { code: 'UNKNOWN_PARCEL' })
})
