import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { pathTo } from '../../lib/peer-status.js'
import { eventually, twoHosts } from '../support/hosts.js'

const SIZE = 3_000_000

test('what is still to come, how fast, and what came from whom by what way', async (t) => {
  const { one: desk, other: laptop, folder } = await twoHosts(t)
  const goOn = laptop.hold('p')
  await writeFile(join(folder, 'file'), randomBytes(SIZE))
  await desk.suspend('p')
  const { missing } = await eventually(async () => {
    const status = await laptop.status('p')
    return status.missing.blocks > 0 ? status : null
  }, 'what is to come')
  assert.ok(missing.bytes > SIZE / 2 && missing.bytes < 2 * SIZE, `${missing.bytes}`)
  goOn()
  const rate = await eventually(async () => {
    const [peer] = (await laptop.status('p')).peers
    return peer !== undefined && peer.down > 0 ? peer.down : null
  }, 'a rate')
  // All of it came within what a rate is of, or is on its way.
  assert.ok(rate <= SIZE, `${rate}`)
  await eventually(async () => (await laptop.status('p')).missing.blocks === 0 || null, 'all')
  const [from] = (await laptop.status('p')).peers
  const [to] = (await desk.status('p')).peers
  assert.ok(from && to)
  assert.deepEqual([from.name, from.path, from.carrier], ['desk', 'lan', 'tcp'])
  assert.ok(from.received > SIZE && from.received < 1.2 * SIZE, `${from.received}`)
  assert.ok(to.sent > SIZE && to.sent < 1.2 * SIZE, `${to.sent}`)
  await eventually(async () => {
    const [peer] = (await laptop.status('p')).peers
    return peer?.down === 0 || null
  }, 'no rate any more')
})

test('addresses of home networks, and others', () => {
  const path = (address: string): string => pathTo({ carrier: 'udx', relay: null, address })
  for (const address of [
    '127.0.0.1',
    '10.1.2.3',
    '172.20.0.1',
    '192.168.1.9',
    '::1',
    'fe80::1%eth0'
  ]) {
    assert.equal(path(address), 'lan', address)
  }
  for (const address of ['8.8.8.8', '172.32.0.1', '2001:db8::1', '']) {
    assert.equal(path(address), 'direct', address)
  }
  assert.equal(pathTo({ carrier: 'local', relay: null, address: '' }), 'here')
  assert.equal(pathTo({ carrier: 'udx', relay: '', address: '10.1.2.3' }), 'relayed')
})
