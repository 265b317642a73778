import assert from 'node:assert/strict'
import { mkdtemp, readFile, rm, truncate, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import type { TestContext } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { assemble } from '../../lib/vmm/assemble.js'
import { Disk } from '../../lib/vmm/v86-disk.js'
import { v86 } from '../../lib/vmm/v86.js'

async function folder(t: TestContext): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), 'hyperparcel-test-'))
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
    await machine.capture()
    await machine.end()
    assert.equal(await machine.exited, null)
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
