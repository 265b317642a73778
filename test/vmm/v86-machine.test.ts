import assert from 'node:assert/strict'
import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import type { TestContext } from 'node:test'
import { v86 } from '../../lib/vmm/v86.js'

async function folder(t: TestContext): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), 'hyperparcel-test-'))
  t.after(() => rm(dir, { recursive: true, force: true }))
  return dir
}

test('prepare writes a machine file once, with the first image as its disk', async (t) => {
  const dir = await folder(t)
  await writeFile(join(dir, 'b.img'), Buffer.alloc(512))
  await writeFile(join(dir, 'a.img'), Buffer.alloc(1024))
  await mkdir(join(dir, '0.img'))
  assert.equal(await v86.prepare(dir), true)
  assert.equal(await v86.prepare(dir), false)
  const machine = await v86.describe(dir)
  assert.deepEqual(machine.roles, {
    'machine.json': 'config',
    'a.img': 'disk',
    'state/memory': 'memory',
    'state/device': 'device'
  })
  const facts = await v86.facts(machine)
  assert.match(facts['vmm'] ?? '', /^v86 \d+\.\d+\.\d+/)
  assert.match(facts['bios'] ?? '', /^built-in sha256:[0-9a-f]{64}$/)
  assert.equal(facts['memory'], '4194304')
  assert.equal(facts['disk:a.img'], '1024')
  assert.deepEqual(await v86.mismatches(facts), [])
})

test('each bad machine file is refused, naming the field and what is allowed', async (t) => {
  const dir = await folder(t)
  await writeFile(join(dir, 'empty.img'), '')
  await writeFile(join(dir, 'odd.img'), Buffer.alloc(513))
  await writeFile(join(dir, 'small.rom'), Buffer.alloc(1024))
  await mkdir(join(dir, 'folder'))
  await symlink('/etc/passwd', join(dir, 'out.img'))
  await symlink('/etc', join(dir, 'etc'))
  const ok = { vmm: 'v86', memory: '4M' }
  const disk = (file: unknown) => ({ ...ok, disks: [{ file }] })
  const cases: [unknown, RegExp][] = [
    [{}, /machine\.json: vmm must be "v86"/],
    [{ ...ok, vmm: 'qemu' }, /vmm must be "v86"/],
    [{ vmm: 'v86' }, /memory must be one of "1M", .* "1G"/],
    [{ ...ok, memory: '3M' }, /memory must be one of/],
    [{ ...ok, memory: '2G' }, /memory must be one of/],
    [{ ...ok, memory: 4194304 }, /memory must be one of/],
    [{ ...ok, cpus: 2 }, /unknown field "cpus"; the fields are vmm, memory, bios, disks/],
    [{ ...ok, disks: {} }, /disks must be a list/],
    [{ ...ok, disks: [{ file: 'a.img' }, { file: 'b.img' }] }, /disks must be one disk or none/],
    [
      { ...ok, disks: [{ file: 'a.img', format: 'raw' }] },
      /disks\.0 has the unknown field "format"/
    ],
    [disk(5), /disks\.0\.file must be the path/],
    [disk('/etc/passwd'), /file must be a relative path/],
    [disk('../a.img'), /file must be a relative path/],
    [disk('a/./b.img'), /file must be a relative path/],
    [disk(''), /file must be a relative path/],
    [disk('a\\b'), /file must be a relative path/],
    [disk('machine.json'), /file must not be the machine file/],
    [disk('state/memory'), /in state\//],
    [disk('absent.img'), /absent\.img is not there/],
    [disk('out.img'), /out\.img leads out of the folder/],
    [disk('etc/passwd'), /etc\/passwd leads out of the folder/],
    [disk('folder'), /folder must be a plain file/],
    [disk('empty.img'), /empty\.img must be a raw disk image/],
    [disk('odd.img'), /odd\.img must be a raw disk image/],
    [{ ...ok, bios: 'small.rom' }, /small\.rom must be a ROM of 64, 128 or 256 KiB/],
    [[], /machine\.json must be an object with the fields/]
  ]
  await assert.rejects(v86.describe(dir), {
    code: 'BAD_MACHINE',
    message: /machine\.json is not there/
  })
  for (const [value, message] of cases) {
    await writeFile(join(dir, 'machine.json'), JSON.stringify(value))
    await assert.rejects(v86.describe(dir), { code: 'BAD_MACHINE', message }, String(message))
    await assert.rejects(v86.facts({ dir, images: null, roles: {} }), { code: 'BAD_MACHINE' })
  }
  await writeFile(join(dir, 'machine.json'), '{"vmm":')
  await assert.rejects(v86.describe(dir), { code: 'BAD_MACHINE', message: /must be JSON/ })
  await writeFile(join(dir, 'machine.json'), JSON.stringify(ok) + ' '.repeat(64 * 1024))
  await assert.rejects(v86.describe(dir), { code: 'BAD_MACHINE', message: /64 KiB or less/ })
})

test('mismatches name what differs and what to do', async (t) => {
  const dir = await folder(t)
  await v86.prepare(dir)
  const facts = await v86.facts(await v86.describe(dir))
  const differ = async (other: Record<string, string>) =>
    (await v86.mismatches({ ...facts, ...other })).map(({ fact, wanted }) => [fact, wanted])
  assert.deepEqual(await differ({ vmm: 'v86 0.4.0' }), [['vmm', 'v86 0.4.0']])
  assert.deepEqual(await differ({ memory: '2147483648' }), [['memory', '2147483648']])
  assert.deepEqual(await differ({ bios: 'built-in sha256:00' }), [['bios', 'built-in sha256:00']])
  assert.deepEqual(await differ({ bios: 'my.rom sha256:00' }), [])
  assert.deepEqual(
    (await v86.mismatches({})).map(({ fact }) => fact),
    ['vmm', 'memory']
  )
})
