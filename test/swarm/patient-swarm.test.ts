import assert from 'node:assert/strict'
import { test, type TestContext } from 'node:test'
import DHT from 'hyperdht'
import type { Connection } from 'hyperswarm'
import { keyPairFrom, randomBytes, type KeyPair } from '../../lib/keys/identity.js'
import { parseBootstrap } from '../../lib/swarm/dht.js'
import { PatientSwarm } from '../../lib/swarm/patient-swarm.js'
import { eventually, testDht } from '../support/hosts.js'
import { onEnd } from '../support/on-end.js'

/** Key pairs of which the first is the greater one. */
function twoKeys(): [KeyPair, KeyPair] {
  const [a, b] = [keyPairFrom(randomBytes(32)), keyPairFrom(randomBytes(32))]
  return Buffer.compare(a.publicKey, b.publicKey) > 0 ? [a, b] : [b, a]
}

interface Host {
  swarm: PatientSwarm
  /** In the order in which they came. */
  connections: Connection[]
}

function host(t: TestContext, keyPair: KeyPair, bootstrap: { host: string; port: number }[]): Host {
  const dht = new DHT({ bootstrap, host: '127.0.0.1' })
  const swarm = new PatientSwarm({ keyPair, dht })
  const connections: Connection[] = []
  swarm.on('connection', (connection) => {
    connection.on('error', () => {})
    connections.push(connection)
  })
  onEnd(t, () => swarm.destroy())
  return { swarm, connections }
}

async function connected(one: Host, other: Host): Promise<void> {
  await eventually(() => {
    const isOpen = (each: Host): boolean => each.connections.some(({ destroying }) => !destroying)
    return isOpen(one) && isOpen(other) ? true : null
  }, 'a connection')
}

for (const who of ['greater', 'lesser'] as const) {
  test(`a host that crashed and dials again is taken while its old place is dialled; the ${who} key waited`, async (t) => {
    const bootstrap = parseBootstrap((await testDht(t)).address)
    const [greater, lesser] = twoKeys()
    const [here, there] = who === 'greater' ? [greater, lesser] : [lesser, greater]
    const crashed = new DHT({ bootstrap, host: '127.0.0.1' })
    await crashed.createServer(() => {}).listen(there)
    await crashed.destroy({ force: true })
    const waiting = host(t, here, bootstrap)
    await waiting.swarm.listen()
    waiting.swarm.joinPeer(there.publicKey)
    assert.equal(waiting.swarm.connecting, 1)
    const again = host(t, there, bootstrap)
    again.swarm.joinPeer(here.publicKey)
    await connected(waiting, again)
    // What it dialled first is what they have: it was not sent away to come again later.
    assert.equal(again.connections.length, 1)
    assert.equal(again.connections[0]?.destroying, false)
  })
}

test('two hosts that dial each other at once agree on one connection', async (t) => {
  const bootstrap = parseBootstrap((await testDht(t)).address)
  const [one, other] = twoKeys()
  const [a, b] = [host(t, one, bootstrap), host(t, other, bootstrap)]
  await Promise.all([a.swarm.listen(), b.swarm.listen()])
  a.swarm.joinPeer(other.publicKey)
  b.swarm.joinPeer(one.publicKey)
  await connected(a, b)
  const open = ({ connections }: Host): Buffer[] =>
    connections.flatMap((each) => (each.destroying ? [] : [each.handshakeHash]))
  await eventually(() => {
    const [mine, yours] = [open(a), open(b)]
    return mine.length === 1 && yours.length === 1 && mine[0]?.equals(yours[0] ?? mine[0]) === true
      ? true
      : null
  }, 'one and the same connection')
})
