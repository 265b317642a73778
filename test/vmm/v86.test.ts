import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import {
  cp,
  mkdir,
  mkdtemp,
  readFile,
  readdir,
  rm,
  stat,
  symlink,
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

test('memory is raw with holes, and the same state resumes twice alike', async (t) => {
  const dir = await folder(t)
  await v86.prepare(dir)
  const first = await start(t, dir, false)
  await until(() => first.heard.text.includes('count 3\r\n'))
  await suspend(first.machine)
  const memory = await readFile(join(dir, 'state/memory'))
  assert.equal(memory.length, 4 * 1024 * 1024)
  assert.equal(memory.readUInt32LE(0x500), counted(first.heard.text))
  assert.ok((await stat(join(dir, 'state/memory'))).blocks * 512 < memory.length / 4)
  const kept = join(await folder(t), 'state')
  await cp(join(dir, 'state'), kept, { recursive: true })
  for (let round = 0; round < 2; round++) {
    await cp(kept, join(dir, 'state'), { recursive: true })
    const { machine, heard } = await start(t, dir, true)
    // A state that the guest has left behind would be taken for true after a crash.
    await assert.rejects(stat(join(dir, 'state/device')), { code: 'ENOENT' })
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
