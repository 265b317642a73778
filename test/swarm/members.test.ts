import assert from 'node:assert/strict'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { hostFacts, obstacles } from '../../lib/host/host-facts.js'
import { encodeFacts } from '../../lib/format/meta-record.js'
import { Identity } from '../../lib/keys/identity.js'
import { NS } from '../../lib/keys/namespaces.js'
import { SaidByHosts } from '../../lib/parcel/logs/said-by-hosts.js'
import { eventually, TestHosts } from '../support/hosts.js'

test('members show what each host is', async (t) => {
  const hosts = await TestHosts.start(t)
  const owner = await hosts.create('owner')
  const folder = join(hosts.dir, 'folder')
  await mkdir(folder)
  await writeFile(join(folder, 'a'), 'a')
  await owner.add(folder, { name: 'p', vm: 'folder' })
  await owner.suspend('p')
  const reader = await hosts.create('reader')
  await reader.join((await owner.invite('p', { role: 'reader' })).invite)
  const expected = await hostFacts()
  for (const host of [owner, reader]) {
    await eventually(async () => {
      const { members } = await host.status('p')
      return members.length === 2 && members.every(({ facts }) => facts !== null) ? true : null
    }, `${host.name} knows of both`)
    for (const { facts, was, obstacles } of (await host.status('p')).members) {
      assert.deepEqual({ ...facts }, { ...expected })
      assert.deepEqual({ ...was }, {})
      assert.deepEqual(obstacles, [])
    }
  }
  assert.match(expected['software'] ?? '', /^hyperparcel \d/)
  // Said once: nothing new is written by a restart.
  const before = (await owner.status('p')).blocks
  await hosts.stop('owner')
  const again = await hosts.open('owner')
  assert.deepEqual((await again.status('p')).blocks, before)
})

test('facts are signed, bound to their parcel, and what changed is kept', () => {
  const [host, other] = [Identity.create(), Identity.create()]
  const parcel = Buffer.alloc(32, 1)
  const say = (created: number, facts: Record<string, string>, by = host, of = parcel) => {
    const bytes = encodeFacts(of, { created, facts })
    return { bytes, signature: by.sign(NS.factsSignature, bytes) }
  }
  const id = host.publicKey.toString('hex')
  const said = new SaidByHosts(parcel)
  said.add(id, say(1, { vmm: 'qemu 7.2', cpu: 'a' }))
  said.add(id, say(3, { vmm: 'qemu 8.0', cpu: 'a', system: 'x' }))
  const expected = { vmm: 'qemu 7.2', system: '' }
  assert.deepEqual({ ...said.of(id)?.was }, expected)
  // What is older, of another parcel or of somebody else changes nothing.
  said.add(id, say(2, { vmm: 'qemu 1.0' }))
  assert.throws(() => said.add(id, say(4, {}, other)), { code: 'INTEGRITY' })
  assert.throws(() => said.add(id, say(4, {}, host, Buffer.alloc(32, 2))), { code: 'INTEGRITY' })
  assert.deepEqual({ ...said.of(id)?.was }, expected)
  assert.equal(said.of(id)?.facts['vmm'], 'qemu 8.0')
})

test('who cannot resume a version is known by facts', () => {
  const version = { vmm: 'qemu 7.2', accelerator: 'kvm' }
  const host = { vmm: 'qemu 8.1', accelerators: 'kvm tcg' }
  assert.deepEqual(obstacles(version, host), [])
  assert.deepEqual(obstacles(version, { ...host, vmm: '' }), ['it has no QEMU'])
  assert.deepEqual(obstacles(version, { ...host, vmm: 'qemu 6.10' }), [
    'its qemu 6.10 is older than qemu 7.2'
  ])
  assert.deepEqual(obstacles(version, { ...host, accelerators: 'tcg' }), ['it has no kvm'])
  assert.deepEqual(obstacles({}, { vmm: '' }), [])
})
