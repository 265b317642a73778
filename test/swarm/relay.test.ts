import assert from 'node:assert/strict'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout } from 'node:timers/promises'
import DHT from 'hyperdht'
import { Host } from '../../lib/index.js'
import { createNode, parseBootstrap } from '../../lib/swarm/dht.js'
import { Relays } from '../../lib/swarm/relay.js'
import { eventually, testDht } from '../support/hosts.js'
import { onEnd } from '../support/on-end.js'
import { scratch } from '../support/scratch.js'

test('a relay takes connections of trusted hosts alone, and only as long as they are', async (t) => {
  const bootstrap = parseBootstrap((await testDht(t)).address)
  const [member, stranger] = [DHT.keyPair(), DHT.keyPair()]
  const trusted = new Set([member.publicKey.toString('hex')])
  const dht = createNode(bootstrap)
  const relays = new Relays(dht, (host) => trusted.has(host))
  onEnd(t, async () => {
    await relays.set(false)
    await dht.destroy({ force: true })
  })
  assert.equal(relays.key.length, 0)
  await relays.set(true)
  const { key } = relays

  const connect = async (keyPair: typeof member) => {
    const node = createNode(bootstrap)
    onEnd(t, () => node.destroy({ force: true }))
    const stream = node.connect(key, { keyPair })
    const ended = new Promise<void>((resolve) => stream.once('close', resolve))
    stream.on('error', () => {})
    return { stream, ended, isOpen: await stream.opened.catch(() => false) }
  }
  assert.equal((await connect(stranger)).isOpen, false)
  const { stream, ended, isOpen } = await connect(member)
  assert.equal(isOpen, true)
  // Opened on this side: it is heard from the other one that it is there too.
  await eventually(() => stream.rawBytesRead > 0 || null, 'the relay')
  trusted.clear()
  relays.review()
  await ended

  trusted.add(member.publicKey.toString('hex'))
  assert.equal((await connect(member)).isOpen, true)
  await relays.set(false)
  assert.equal((await connect(member)).isOpen, false)
})

test('a host that is to relay and finds no DHT closes like any other', async (t) => {
  const home = join(await scratch(t), 'home')
  const host = await Host.create({ home, bootstrap: '127.0.0.1:1' })
  await host.limits.setRelays(true)
  await setTimeout(300)
  await host.close()
  const dht = await testDht(t)
  const again = await Host.open({ home, bootstrap: dht.address })
  onEnd(t, () => again.close())
  assert.equal(again.limits.info.relays, true)
  await again.limits.setRelays(false)
})
