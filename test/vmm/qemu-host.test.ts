import assert from 'node:assert/strict'
import { test } from 'node:test'
import { hostMismatches, qemuHost } from '../../lib/vmm/qemu-host.js'
import { missingForQemu } from '../../examples/demo/linux-guest.js'

const skip = missingForQemu() ?? false

const FACTS = {
  vmm: 'qemu 7.2',
  machine: 'pc-q35-7.2',
  cpu: 'qemu64-v1',
  accelerator: 'tcg',
  memory: '134217728',
  'disk:disk.img': '16777216'
}

test('what QEMU offers is read from its own lists', { skip }, async () => {
  const host = await qemuHost()
  assert.match(host?.version ?? '', /^\d+\.\d+$/)
  assert.ok(host?.fullVersion.startsWith(host.version))
  assert.ok(host?.machines.has('pc-q35-7.2') && host.machines.has('pc'))
  assert.ok(host?.cpus.has('qemu64-v1') && host.cpus.has('Skylake-Server-v4'))
})

test('what this host lacks is named, with advice', { skip }, async () => {
  assert.deepEqual(await hostMismatches(FACTS), [])
  assert.deepEqual(await lacks({ machine: 'pc-q35-99.0', vmm: 'qemu 99.0' }), ['vmm', 'machine'])
  assert.deepEqual(await lacks({ machine: 'pc-q35-7.2,firmware=/etc/passwd' }), ['machine'])
  assert.deepEqual(await lacks({ cpu: 'Imaginary-v1' }), ['cpu'])
  assert.deepEqual(await lacks({ accelerator: 'hvf' }), ['accelerator'])
  assert.deepEqual(await lacks({ vmm: 'qemu 6.0' }), [])
})

test('a CPU model that this host cannot give whole is a mismatch', { skip }, async () => {
  // TCG lacks features of this model; without `enforce` the guest would lose them in silence.
  assert.deepEqual(await lacks({ cpu: 'Skylake-Server-v4' }), ['cpu'])
})

test('a host without QEMU: one mismatch, which says how to install it', async () => {
  const found = await hostMismatches(FACTS, 'no-such-qemu')
  assert.deepEqual(
    found.map(({ fact, here }) => [fact, here]),
    [['vmm', '']]
  )
  assert.match(found[0]?.advice ?? '', /apt install qemu-system-x86/)
})

async function lacks(change: Record<string, string>): Promise<string[]> {
  const found = await hostMismatches({ ...FACTS, ...change })
  for (const { fact, wanted, advice } of found) {
    assert.equal(wanted, change[fact])
    assert.notEqual(advice, '')
  }
  return found.map(({ fact }) => fact)
}
