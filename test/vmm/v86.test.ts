import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import {
  mkdir,
  mkdtemp,
  readFile,
  readdir,
  rm,
  stat,
  symlink,
  truncate,
  writeFile
} from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import type { TestContext } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import { assemble } from '../../lib/vmm/assemble.js'
import type { RunningMachine } from '../../lib/vmm/driver.js'
import { Disk, v86 } from '../../lib/vmm/v86.js'

async function folder(t: TestContext): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), 'hyperparcel-v86-'))
  t.after(() => rm(dir, { recursive: true, force: true }))
  return dir
}

async function start(t: TestContext, dir: string, resume: boolean) {
  const machine = await v86.start(await v86.describe(dir), { resume, runDir: dir })
  t.after(() => machine.end())
  const heard = { text: '' }
  machine.console.on('data', (bytes: Buffer) => (heard.text += bytes.toString('latin1')))
  return { machine, heard }
}

async function until(condition: () => boolean | Promise<boolean>): Promise<void> {
  for (const end = Date.now() + 10_000; !(await condition()); await sleep(5)) {
    assert.ok(Date.now() < end, 'it did not come in 10 s')
  }
}

/** Asserts that the text is count 1, 2, 3 … with nothing skipped, repeated or torn; returns the last. */
function counted(text: string): number {
  const lines = text.split('\r\n')
  const rest = lines.pop() ?? ''
  lines.forEach((line, i) => assert.equal(line, `count ${i + 1}`))
  assert.ok(`count ${lines.length + 1}`.startsWith(rest), rest)
  return lines.length
}

async function suspend(machine: RunningMachine): Promise<void> {
  await machine.capture()
  await machine.end()
  assert.equal(await machine.exited, null)
}

/** How a machine refuses to start from the folder as it is. */
async function refusal(dir: string): Promise<{ code: unknown; message: string }> {
  const error: unknown = await v86
    .start(await v86.describe(dir), { resume: true, runDir: dir })
    .then((machine) => machine.end())
    .catch((reason: unknown) => reason)
  assert.ok(error instanceof Error && 'code' in error, 'it started')
  return { code: error.code, message: error.message }
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

test('goes on with the next count from the folder alone, suspended at any moment', async (t) => {
  const dir = await folder(t)
  await v86.prepare(dir)
  let text = ''
  for (let round = 0; round < 4; round++) {
    const { machine, heard } = await start(t, dir, round > 0)
    await until(() => heard.text.includes('\n'))
    await sleep(round * 31)
    await suspend(machine)
    const before = counted(text)
    text += heard.text
    assert.ok(counted(text) > before)
  }
})

test('memory is raw with holes, and the same folder resumes twice alike', async (t) => {
  const dir = await folder(t)
  await v86.prepare(dir)
  const first = await start(t, dir, false)
  await until(() => first.heard.text.includes('count 3\r\n'))
  await suspend(first.machine)
  const memory = await readFile(join(dir, 'state/memory'))
  assert.equal(memory.length, 4 * 1024 * 1024)
  assert.equal(memory.readUInt32LE(0x500), counted(first.heard.text))
  assert.ok((await stat(join(dir, 'state/memory'))).blocks * 512 < memory.length / 4)
  for (let round = 0; round < 2; round++) {
    const { machine, heard } = await start(t, dir, true)
    await until(() => heard.text.includes('\n'))
    await machine.end()
    counted(first.heard.text + heard.text)
  }
})

test('proceeds after a capture', async (t) => {
  const dir = await folder(t)
  await v86.prepare(dir)
  const { machine, heard } = await start(t, dir, false)
  await until(() => heard.text.includes('count 2\r\n'))
  await machine.capture()
  const stood = heard.text
  await sleep(150)
  assert.equal(heard.text, stood)
  await machine.proceed()
  await until(() => heard.text.length > stood.length + 12)
  counted(heard.text)
})

test('the console is two-way, and what the guest had not read travels with it', async (t) => {
  const dir = await folder(t)
  await v86.prepare(dir)
  const { machine, heard } = await start(t, dir, false)
  machine.console.write('x')
  await until(() => heard.text.includes('echo: x\r\n'))
  machine.console.write('yz')
  await suspend(machine)
  assert.doesNotMatch(heard.text, /echo: [yz]/)
  const again = await start(t, dir, true)
  await until(() => again.heard.text.includes('echo: z\r\n'))
  const echoes = (heard.text + again.heard.text).match(/echo: .*/g)
  assert.deepEqual(echoes, ['echo: x', 'echo: y', 'echo: z'])
})

test('a damaged or missing state is refused, and does not hang', async (t) => {
  const dir = await folder(t)
  await v86.prepare(dir)
  assert.deepEqual((await refusal(dir)).code, 'VMM_FAILED')
  const { machine, heard } = await start(t, dir, false)
  await until(() => heard.text.includes('\n'))
  await suspend(machine)
  const file = join(dir, 'state/device')
  const good = await readFile(file)
  const flipped = Buffer.from(good)
  flipped.writeUInt8(good.readUInt8(5000) ^ 1, 5000)
  const nonsense = Buffer.from('not a state of v86, but summed rightly\0\0\0\0')
  const sum = createHash('sha256').update(nonsense).digest()
  const bodies = [
    Buffer.alloc(0),
    good.subarray(0, 100_000),
    flipped,
    Buffer.concat([nonsense, sum])
  ]
  for (const body of bodies) {
    await writeFile(file, body)
    assert.equal((await refusal(dir)).code, 'VMM_FAILED')
  }
  await writeFile(file, good)
  await writeFile(join(dir, 'state/memory'), Buffer.alloc(4096))
  assert.deepEqual(await refusal(dir), {
    code: 'VMM_FAILED',
    message:
      "state/memory is 4096 bytes, and the machine's memory 4194304: take it from the version again"
  })
})

test('a capture that fails leaves no temporary file and lets the guest go on', async (t) => {
  const dir = await folder(t)
  await v86.prepare(dir)
  const { machine, heard } = await start(t, dir, false)
  await mkdir(join(dir, 'state/memory/in-the-way'), { recursive: true })
  await assert.rejects(machine.capture(), { code: 'VMM_FAILED' })
  assert.deepEqual(await readdir(join(dir, 'state')), ['memory'])
  const before = counted(heard.text)
  await until(() => counted(heard.text) > before + 1)

  await rm(join(dir, 'state'), { recursive: true })
  await symlink(tmpdir(), join(dir, 'state'))
  await assert.rejects(machine.capture(), { code: 'BAD_MACHINE' })
  await rm(join(dir, 'state'))
  await suspend(machine)
  await assert.rejects(machine.capture(), { code: 'NOT_RUNNING' })
  assert.deepEqual((await readdir(join(dir, 'state'))).toSorted(), ['device', 'memory'])
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
    await assert.rejects(v86.facts({ dir, roles: {} }), { code: 'BAD_MACHINE' })
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

test('a disk request sees all before it, and flush waits for them', async (t) => {
  const dir = await folder(t)
  await writeFile(join(dir, 'a.img'), Buffer.alloc(1024 * 1024, 7))
  const disk = await Disk.open(join(dir, 'a.img'))
  t.after(() => disk.close())
  const order: string[] = []
  const bytes = Buffer.alloc(4096, 1)
  disk.set(512, bytes, () => order.push('set'))
  bytes.fill(9)
  const seen = new Promise<Uint8Array>((resolve) =>
    disk.get(0, 8192, (read) => {
      order.push('get')
      // The guest's next request comes from within the answer to the one before.
      disk.set(8192, Buffer.alloc(512, 2), () => order.push('next'))
      resolve(read)
    })
  )
  await disk.flush()
  assert.deepEqual(order, ['set', 'get', 'next'])
  const expected = Buffer.alloc(1024 * 1024, 7)
  expected.fill(1, 512, 512 + 4096)
  assert.deepEqual(Buffer.from(await seen), expected.subarray(0, 8192))
  expected.fill(2, 8192, 8192 + 512)
  assert.deepEqual(await readFile(join(dir, 'a.img')), expected)
})

test('a disk write that fails is told, and is not answered', async () => {
  const disk = await Disk.open('/dev/full')
  let answered = false
  const trouble = new Promise((resolve) => disk.once('trouble', resolve))
  disk.set(0, Buffer.alloc(512), () => (answered = true))
  await assert.rejects(disk.flush(), { code: 'ENOSPC' })
  const error = await trouble
  assert.ok(error instanceof Error && 'code' in error && error.code === 'ENOSPC')
  await assert.rejects(disk.flush(), { code: 'ENOSPC' })
  await disk.close()
  assert.equal(answered, false)
})

/** Adds one to the first word of sector 1, over and over, and writes 'A' to 'P' for its low bits. */
const DISK_ROM = `
start:  cli
        xor ax, ax
        mov ds, ax
        mov ss, ax
        mov sp, 0x7c00
again:  mov al, 0x20            ; read a sector
        call ask
        in ax, dx
        mov [0x500], ax
        mov cx, 255
rest:   in ax, dx
        loop rest
        inc word [0x500]
        mov al, 0x30            ; write it
        call ask
        mov ax, [0x500]
        out dx, ax
        mov cx, 255
fill:   out dx, ax
        loop fill
        mov dx, 0x1f7
busy:   in al, dx
        test al, 0x80
        jne busy
        mov ax, [0x500]
        and ax, 15
        add al, 'A'
        mov dx, 0x3f8
        out dx, al
        jmp again
ask:    push ax
        mov dx, 0x1f6
        mov al, 0xe0
        out dx, al
        mov dx, 0x1f2
        mov al, 1
        out dx, al
        mov dx, 0x1f3
        out dx, al
        mov dx, 0x1f4
        xor al, al
        out dx, al
        mov dx, 0x1f5
        out dx, al
        pop ax
        mov dx, 0x1f7
        out dx, al
wait:   in al, dx
        test al, 8
        je wait
        mov dx, 0x1f0
        ret
        org 0xfff0
        jmp 0xf000:start
`

test('a guest that writes its disk all the time is suspended and resumed', async (t) => {
  const dir = await folder(t)
  await writeFile(join(dir, 'own.rom'), assemble(DISK_ROM, 64 * 1024))
  await writeFile(join(dir, 'disk.img'), Buffer.alloc(1024 * 1024))
  const spec = { vmm: 'v86', memory: '1M', bios: 'own.rom', disks: [{ file: 'disk.img' }] }
  await writeFile(join(dir, 'machine.json'), JSON.stringify(spec))
  const facts = await v86.facts(await v86.describe(dir))
  assert.match(facts['bios'] ?? '', /^own\.rom sha256:/)
  let text = ''
  for (let round = 0; round < 4; round++) {
    const { machine, heard } = await start(t, dir, round > 0)
    await until(() => heard.text.length > 20)
    await suspend(machine)
    text += heard.text
    for (let i = 0; i < text.length; i++) assert.equal(text.charCodeAt(i), 65 + ((i + 1) % 16))
    const count = (await readFile(join(dir, 'disk.img'))).readUInt16LE(512)
    assert.ok(count === text.length || count === text.length + 1, `${count} ${text.length}`)
  }
})

test('a disk that fails under a guest is told, and the guest goes on when it works again', async (t) => {
  const dir = await folder(t)
  const image = join(dir, 'disk.img')
  await writeFile(join(dir, 'own.rom'), assemble(DISK_ROM, 64 * 1024))
  await writeFile(image, Buffer.alloc(1024 * 1024))
  const spec = { vmm: 'v86', memory: '1M', bios: 'own.rom', disks: [{ file: 'disk.img' }] }
  await writeFile(join(dir, 'machine.json'), JSON.stringify(spec))
  const { machine, heard } = await start(t, dir, false)
  await until(() => heard.text.length > 20)
  while (!heard.text.includes('the guest waits')) {
    await truncate(image, 0)
    await sleep(5)
  }
  await assert.rejects(machine.capture(), { code: 'VMM_FAILED', message: /become shorter/ })
  await truncate(image, 1024 * 1024)
  const before = heard.text.length
  await until(() => heard.text.length > before)
  await machine.capture()
})

test('a guest that halts for good ends its machine, with the reason', async (t) => {
  const dir = await folder(t)
  const rom = assemble('cli\nhlt\norg 0xfff0\njmp 0xf000:0', 64 * 1024)
  await writeFile(join(dir, 'own.rom'), rom)
  await writeFile(
    join(dir, 'machine.json'),
    JSON.stringify({ vmm: 'v86', memory: '1M', bios: 'own.rom' })
  )
  const { machine } = await start(t, dir, false)
  assert.equal(await machine.exited, 'the guest halted its processor')
  await assert.rejects(machine.capture(), { code: 'NOT_RUNNING' })
})

test('prints nothing and keeps no process alive', async (t) => {
  const dir = await folder(t)
  await v86.prepare(dir)
  const driver = new URL('../../lib/vmm/v86.js', import.meta.url).href
  const script = `
    const { v86 } = await import(${JSON.stringify(driver)})
    const dir = ${JSON.stringify(dir)}
    for (const resume of [false, true]) {
      const machine = await v86.start(await v86.describe(dir), { resume, runDir: dir })
      await new Promise((resolve) => machine.console.once('data', resolve))
      await machine.capture()
      await machine.end()
    }`
  const { stdout, stderr } = await promisify(execFile)(
    process.execPath,
    ['--input-type=module', '-e', script],
    { timeout: 20_000 }
  )
  assert.deepEqual({ stdout, stderr }, { stdout: '', stderr: '' })
})
