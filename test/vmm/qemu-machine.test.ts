import assert from 'node:assert/strict'
import { mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test, type TestContext } from 'node:test'
import { z } from 'zod'
import { ParcelError } from '../../lib/errors.js'
import { qemu } from '../../lib/vmm/qemu.js'
import { qemuArgs } from '../../lib/vmm/qemu-command.js'
import { parseMachine, readMachine } from '../../lib/vmm/qemu-machine.js'

const GOOD = {
  vmm: 'qemu',
  machine: 'pc-q35-7.2',
  cpu: 'qemu64-v1',
  accelerator: 'tcg',
  memory: '256M',
  smp: 2,
  disks: [{ file: 'disk.img', format: 'raw' }],
  network: 'user',
  display: 'vnc'
}

/** A change to the good machine file, and what the message must say. */
const BAD: [Record<string, unknown>, RegExp][] = [
  [{ vmm: 'v86' }, /"vmm" must be "qemu"/],
  [
    { machine: 'q35' },
    /"machine" must be a versioned machine type.*another machine with every QEMU/
  ],
  [{ machine: 'pc' }, /"machine" must be/],
  [{ machine: 'pc-q35-7.2,firmware=x' }, /"machine" must be/],
  [{ cpu: 'host' }, /"cpu" must be a versioned CPU model.*differ from host to host/],
  [{ cpu: 'max' }, /"cpu" must be/],
  [{ cpu: 'max-v1' }, /"cpu" must be/],
  [{ cpu: 'qemu64' }, /"cpu" must be/],
  [{ cpu: undefined }, /"cpu" must be/],
  [{ accelerator: 'xen' }, /"accelerator" must be "tcg".*"kvm"/],
  [{ memory: 256 }, /"memory" must be a size such as "256M"/],
  [{ memory: '256' }, /"memory" must be a size/],
  [{ memory: '1M' }, /"memory" must be from 16M/],
  [{ smp: 0 }, /"smp" must be 1 or more/],
  [{ smp: 1.5 }, /"smp" must be a number of CPUs/],
  [{ disks: 'disk.img' }, /"disks" must be a list/],
  [
    { disks: [{ file: 'disk.img', format: 'vmdk' }] },
    /"disks\.0\.format" must be "raw" or "qcow2"/
  ],
  [
    { disks: [{ file: 'disk.img', format: 'raw', size: 1 }] },
    /"disks\.0" has the unknown field "size"/
  ],
  [{ disks: [{ file: '/etc/shadow', format: 'raw' }] }, /"disks\.0\.file" must be a relative path/],
  [{ disks: [{ file: 'a/../../x', format: 'raw' }] }, /"disks\.0\.file" must be a relative path/],
  [{ disks: [{ file: 'state/memory', format: 'raw' }] }, /in state\//],
  [{ disks: [...GOOD.disks, ...GOOD.disks] }, /must name "disk.img" once/],
  [{ kernel: '' }, /"kernel" must be a relative path/],
  [{ initrd: 'initrd' }, /"initrd" must come with "kernel"/],
  [{ nvram: 'vars.fd' }, /"nvram" must come with "firmware"/],
  [{ network: 'tap' }, /"network" must be "user" or "none"/],
  [{ display: 'sdl' }, /"display" must be "vnc" or "none"/],
  [{ colour: 'red' }, /unknown field "colour"; allowed are vmm, machine/],
  [{ args: ['-daemonize'] }, /"args" must not have -daemonize.*cannot be suspended/],
  [{ args: ['--snapshot'] }, /"args" must not have -snapshot/],
  [{ args: ['-qmp', 'stdio'] }, /"args" must not have -qmp \(hyperparcel sets it itself\)/],
  [{ args: ['-drive', 'file=/x'] }, /list it under "disks"/],
  [{ args: ['-netdev', 'tap,script=/x'] }, /reaches outside the machine/],
  [{ args: ['-constructor'] }, /"args" must not have -constructor; allowed are -device/],
  [{ args: ['-device', 'vfio-pci,host=01:00.0'] }, /must not have the device vfio-pci/],
  [{ args: ['-device', 'usb-mtp,rootdir=..'] }, /must not have the device usb-mtp/],
  [{ args: ['-device', 'id=a,driver=usb-mtp'] }, /must not have the device id=a/],
  [{ args: ['-device', '{"driver":"usb-mtp"}'] }, /must not have a path or JSON/],
  [{ args: ['-boot', 'splash=/etc/shadow'] }, /must not have a path or JSON/],
  [{ args: ['-name'] }, /must have a value after -name/]
]

test('a bad machine file: the message names the field and what is allowed', () => {
  assert.equal(parseMachine(JSON.stringify(GOOD)).memory, 256 * 2 ** 20)
  for (const [change, message] of BAD) {
    assert.throws(() => parseMachine(JSON.stringify({ ...GOOD, ...change })), badMachine(message))
  }
  for (const text of ['', '[]', 'null', '{']) {
    assert.throws(() => parseMachine(text), badMachine(/is not JSON|must be an object with vmm/))
  }
})

test('files of the machine must be regular files inside the folder', async (t) => {
  const dir = await folder(t)
  const write = (change: object): Promise<void> =>
    writeFile(join(dir, 'machine.json'), JSON.stringify({ ...GOOD, ...change }))
  await assert.rejects(readMachine({ dir, images: null }), badMachine(/cannot be read/))
  await write({})
  await assert.rejects(
    readMachine({ dir, images: null }),
    badMachine(/"disk.img", which is not in the folder/)
  )
  await symlink('/etc/passwd', join(dir, 'disk.img'))
  await assert.rejects(readMachine({ dir, images: null }), badMachine(/a link that leads out/))
  await mkdir(join(dir, 'folder'))
  await write({ disks: [{ file: 'folder', format: 'raw' }] })
  await assert.rejects(readMachine({ dir, images: null }), badMachine(/not a regular file/))
  await writeFile(join(dir, 'real.img'), 'x')
  await symlink('real.img', join(dir, 'link.img'))
  await write({ disks: [{ file: 'link.img', format: 'raw' }] })
  await readMachine({ dir, images: null })
  await write({ append: 'x'.repeat(65536) })
  await assert.rejects(readMachine({ dir, images: null }), badMachine(/larger than 64 KiB/))
})

test('a qcow2 image that reads other files of the host is refused', async (t) => {
  const dir = await folder(t)
  const machine = { ...GOOD, disks: [{ file: 'disk.qcow2', format: 'qcow2' }] }
  await writeFile(join(dir, 'machine.json'), JSON.stringify(machine))
  const header = Buffer.alloc(104)
  const write = (): Promise<void> => writeFile(join(dir, 'disk.qcow2'), header)
  await write()
  await assert.rejects(
    qemu.describe(dir),
    badMachine(/"disk.qcow2" is a qcow2 image, which it is not/)
  )
  header.writeUInt32BE(0x514649fb, 0)
  header.writeUInt32BE(3, 4)
  header.writeBigUInt64BE(123n * 2n ** 20n, 24)
  await write()
  assert.equal(
    (await qemu.facts(await qemu.describe(dir)))['disk:disk.qcow2'],
    String(123 * 2 ** 20)
  )
  header.writeBigUInt64BE(4n, 72)
  await write()
  await assert.rejects(qemu.describe(dir), badMachine(/keeps its data in another file/))
  header.writeBigUInt64BE(0n, 72)
  header.writeBigUInt64BE(112n, 8)
  await write()
  await assert.rejects(qemu.describe(dir), badMachine(/keeps its data in another file/))
})

test('prepare writes a machine file for what is there, once', async (t) => {
  const dir = await folder(t)
  await assert.rejects(qemu.prepare(dir), badMachine(/no disk image .* or kernel/))
  for (const name of ['b.qcow2', 'initrd.img', 'vmlinuz-6.1', 'notes.txt']) {
    await writeFile(join(dir, name), '')
  }
  assert.equal(await qemu.prepare(dir), true)
  const text = await readFile(join(dir, 'machine.json'), 'utf8')
  const spec = parseMachine(text)
  assert.deepEqual(spec.disks, [{ file: 'b.qcow2', format: 'qcow2' }])
  assert.equal(spec.kernel, 'vmlinuz-6.1')
  assert.equal(spec.initrd, 'initrd.img')
  assert.match(spec.append ?? '', /console=ttyS0/)
  assert.equal(await qemu.prepare(dir), false)
  assert.equal(await readFile(join(dir, 'machine.json'), 'utf8'), text)
})

test('roles: configuration, disks, nvram and the suspended state; the rest are plain files', async (t) => {
  const dir = await folder(t)
  const machine = { ...GOOD, kernel: 'vmlinuz', firmware: 'code.fd', nvram: 'vars.fd' }
  for (const name of ['disk.img', 'vmlinuz', 'code.fd', 'vars.fd'])
    await writeFile(join(dir, name), '')
  await writeFile(join(dir, 'machine.json'), JSON.stringify(machine))
  assert.deepEqual(await qemu.describe(dir), {
    dir,
    images: null,
    roles: {
      'machine.json': 'config',
      'disk.img': 'disk',
      'vars.fd': 'nvram',
      'state/memory': 'memory',
      'state/device': 'device',
      'state/machine.json': 'config'
    }
  })
})

test('the command leaves nothing to defaults of QEMU', () => {
  const spec = parseMachine(
    JSON.stringify({ ...GOOD, kernel: 'k', firmware: 'f', nvram: 'n', args: ['-name', 'x'] })
  )
  const options = {
    folder: { dir: '/a,b:c', images: null },
    memoryFile: '/a,b:c/state/memory',
    resume: false
  }
  const args = qemuArgs(spec, options)
  const has = (option: string, value: string): boolean =>
    args.some((arg, i) => arg === option && args[i + 1] === value)
  assert.ok(args.includes('-nodefaults') && args.includes('-no-user-config') && args.includes('-S'))
  assert.ok(has('-cpu', 'qemu64-v1,enforce') && has('-accel', 'tcg'))
  assert.ok(has('-rtc', 'base=utc,clock=vm') && has('-kernel', '/a,b:c/k') && has('-name', 'x'))
  const machine = args[args.indexOf('-machine') + 1]
  assert.match(
    machine ?? '',
    /^pc-q35-7\.2,memory-backend=memory,.*pflash0=firmware,pflash1=nvram$/
  )

  const devices = args
    .filter((_, i) => args[i - 1] === '-device')
    .map((arg) => deviceJson.parse(JSON.parse(arg)))
  const ids = devices.map((device) => device.id)
  assert.deepEqual(ids, ['serial0', 'video0', 'nic0', 'virtio-disk0'])
  const pci = devices.filter((device) => device.driver !== 'isa-serial')
  assert.ok(
    pci.every((device) => device.bus === 'pcie.0' && /^0x[0-9a-f]+$/.test(device.addr ?? ''))
  )
  assert.equal(new Set(pci.map((device) => device.addr)).size, pci.length)

  const memory: unknown = JSON.parse(args[args.indexOf('-object') + 1] ?? '')
  assert.deepEqual(memory, {
    'qom-type': 'memory-backend-file',
    id: 'memory',
    size: 256 * 2 ** 20,
    'mem-path': '/a,b:c/state/memory',
    share: true
  })
  assert.ok(!args.some((arg) => /snapshot|loadvm/.test(arg)))
  assert.ok(!args.includes('-incoming'))
  assert.deepEqual(
    qemuArgs(spec, { ...options, resume: true }).filter((arg) => !args.includes(arg)),
    ['-incoming', 'defer']
  )
})

const deviceJson = z.object({
  driver: z.string(),
  id: z.string(),
  bus: z.string().optional(),
  addr: z.string().optional()
})

async function folder(t: TestContext): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), 'hyperparcel-machine-'))
  t.after(() => rm(dir, { recursive: true }))
  return dir
}

function badMachine(message: RegExp): (error: unknown) => boolean {
  return (error) => {
    assert.ok(error instanceof ParcelError)
    assert.equal(error.code, 'BAD_MACHINE')
    assert.match(error.message, message)
    return true
  }
}
