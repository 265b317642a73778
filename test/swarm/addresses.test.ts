import assert from 'node:assert/strict'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { setStoreAside } from '../../lib/index.js'
import { eventually, twoHosts } from '../support/hosts.js'

test('with no DHT any more hosts are found where they were reached before', async (t) => {
  const { hosts, one: desk, folder } = await twoHosts(t)
  await eventually(
    async () => (await desk.status('p')).peers.some(({ carrier }) => carrier === 'tcp') || null,
    'TCP'
  )
  await hosts.stop('laptop')
  await hosts.stop('desk')
  await hosts.dht.stop()
  const again = await hosts.open('desk')
  const laptop = await hosts.open('laptop')
  await writeFile(join(folder, 'file'), 'second')
  const { version } = await again.suspend('p')
  await eventually(async () => {
    const [head] = (await laptop.status('p')).heads
    return (head?.id === version.id && head.isHere) || null
  }, 'the second version')
  const [peer] = (await laptop.status('p')).peers
  assert.deepEqual([peer?.carrier, peer?.path], ['tcp', 'lan'])
})

test('with no DHT any more a host whose store was lost gets everything from whom it remembers', async (t) => {
  const { hosts, one: desk } = await twoHosts(t)
  await eventually(
    async () => (await desk.status('p')).peers.some(({ carrier }) => carrier === 'tcp') || null,
    'TCP'
  )
  await hosts.stop('laptop')
  await setStoreAside(hosts.home('laptop'))
  await hosts.dht.stop()
  const laptop = await hosts.open('laptop')
  const [parcel] = await laptop.recover()
  assert.equal(parcel?.name, 'p')
  const [version] = (await desk.status('p')).heads
  await eventually(async () => {
    const [head] = (await laptop.status('p')).heads
    return (head?.id === version?.id && head?.isHere) || null
  }, 'the version')
})

test('what was kept of addresses and cannot be read is not needed', async (t) => {
  const { hosts } = await twoHosts(t)
  await hosts.stop('laptop')
  await writeFile(join(hosts.home('laptop'), 'addresses'), 'nonsense')
  const laptop = await hosts.open('laptop')
  await eventually(async () => (await laptop.status('p')).peers.length > 0 || null, 'the desk')
})
