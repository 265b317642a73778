import assert from 'node:assert/strict'
import {
  cp,
  mkdir,
  mkdtemp,
  open,
  readFile,
  rm,
  rmdir,
  stat,
  truncate,
  writeFile
} from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { ParcelError, type ErrorCode } from '../../lib/errors.js'
import type { Machine, RunningMachine } from '../../lib/vmm/driver.js'
import { qemu } from '../../lib/vmm/qemu.js'
import { qemuArgs } from '../../lib/vmm/qemu-command.js'
import { adoptMemory, createMemory } from '../../lib/vmm/qemu-folder.js'
import { readMachine } from '../../lib/vmm/qemu-machine.js'
import { QemuProcess } from '../../lib/vmm/qemu-process.js'
import { goOn } from '../../lib/vmm/qemu-running.js'
import { cancelMigration, prepareMigration, saveDevices } from '../../lib/vmm/qemu-state.js'
import { Qmp } from '../../lib/vmm/qmp.js'
import { buildGuest, missingForQemu } from '../../examples/demo/linux-guest.js'
import { Terminal, ticks } from '../guest/terminal.js'

const skip = missingForQemu() ?? false
const MARKER = 'parcel-marker-4711'

let root = ''
/** The parcel's folder; `suspended` is a copy of it, elsewhere, with the guest captured. */
let first = ''
let suspended = ''
const started: RunningMachine[] = []

before(async () => {
  if (skip !== false) return
  root = await mkdtemp(join(tmpdir(), 'hyperparcel-qemu-'))
  first = join(root, 'first')
  // A name that is no good for QEMU's option syntax, and a path too long for a unix socket.
  suspended = join(root, 'a,b:c=d '.repeat(15), 'suspended')
  await buildGuest(first, { memory: '128M', diskMiB: 16, marker: MARKER })
  await editMachine(first, { network: 'user', display: 'vnc' })
})

after(async () => {
  await Promise.all(started.map((machine) => machine.end()))
  if (root !== '') await rm(root, { recursive: true })
})

/** What the guest had said when it was suspended, and the checksum of its file. */
let said = ''
let checksum = ''

test('a guest boots, talks on its console, is checkpointed and suspended', { skip }, async (t) => {
  const machine = await qemu.describe(first)
  const running = await start(machine, false)
  const guest = new Terminal(running)

  await t.test('it boots and ticks', async () => {
    await guest.until(/guest up/)
    await guest.until(/tick 2 /)
    assert.equal((await stat(join(first, 'state/memory'))).mode & 0o777, 0o600)
    assert.match(running.screen ?? '', /^vnc\+unix:\/\/\/.*vnc\.sock$/)
    const screen = await stat((running.screen ?? '').slice('vnc+unix://'.length))
    assert.ok(screen.isSocket())
  })

  await t.test('the console goes both ways', async () => {
    guest.type('marker')
    await guest.until(new RegExp(`marker ${MARKER}`))
    guest.type('marker kept in memory')
    await guest.until(/marker kept in memory/)
    guest.type('write before')
    await guest.until(/wrote before/)
    guest.type('sum')
    checksum = (await guest.until(/sum ([0-9a-f]{64})/))[1] ?? ''
  })

  await t.test('capture, then proceed: the guest goes on, and the state is not kept', async () => {
    await running.capture()
    const tick = guest.lastTick()
    assert.ok((await stat(join(first, 'state/device'))).size < 2 ** 20)
    await assert.rejects(running.capture(), failure('VMM_FAILED', /captured already/))
    await running.proceed()
    await assert.rejects(stat(join(first, 'state/device')), { code: 'ENOENT' })
    await guest.until(new RegExp(`tick ${tick + 2} `))
  })

  await t.test('a capture that fails leaves the guest running', async () => {
    await mkdir(join(first, 'state/device.tmp'))
    await assert.rejects(running.capture(), failure('VMM_FAILED', /cannot suspend the machine/))
    const tick = guest.lastTick()
    await guest.until(new RegExp(`tick ${tick + 2} `))
    await rmdir(join(first, 'state/device.tmp'))
  })

  await t.test('a second start of the folder is refused and does no harm', async () => {
    await assert.rejects(start(machine, false), failure('VMM_FAILED', /lock/i))
    await guest.until(new RegExp(`tick ${guest.lastTick() + 2} `))
  })

  await t.test('capture, then end', async () => {
    await running.capture()
    await running.end()
    assert.equal(await running.exited, null)
    await running.end()
    said = await guest.all()
    await cp(first, suspended, { recursive: true })
  })
})

test(
  'a suspended folder whose parts do not fit is refused, and stays whole',
  { skip },
  async (t) => {
    const dir = join(root, 'damaged')
    await cp(suspended, dir, { recursive: true })
    const device = join(dir, 'state/device')
    const bytes = await readFile(device)

    await t.test('a disk that another program has', async () => {
      const spec = await readMachine({ dir, images: null })
      const options = {
        folder: { dir, images: null },
        memoryFile: join(root, 'other-memory'),
        resume: false
      }
      const other = await QemuProcess.launch(qemuArgs(spec, options), await makeRunDir())
      const qmp = await Qmp.open(other.monitor)
      await assert.rejects(resume(dir), failure('VMM_FAILED', /cannot resume.*lock/))
      await other.end(() => qmp.execute('quit'))
      assert.deepEqual(await readFile(device), bytes)
    })
    await t.test('a device state that was cut short', async () => {
      await truncate(device, bytes.length >> 1)
      await assert.rejects(
        resume(dir),
        failure('VMM_FAILED', /cannot resume.*load of migration failed/)
      )
      assert.equal((await stat(device)).size, bytes.length >> 1)
    })
    await t.test('a device state with damage, or with nothing in it', async () => {
      for (const damaged of [Buffer.alloc(4096, 0xff), Buffer.alloc(0)]) {
        await writeFile(device, damaged)
        await assert.rejects(
          resume(dir),
          failure('VMM_FAILED', /cannot resume.*load of migration failed/)
        )
      }
      await writeFile(device, bytes)
    })
    await t.test('another CPU model', async () => {
      await editMachine(dir, { cpu: 'qemu64-v2' })
      await assert.rejects(
        resume(dir),
        failure('BAD_MACHINE', /cpu was qemu64-v1 and is qemu64-v2/)
      )
      await editMachine(dir, { cpu: 'qemu64-v1' })
    })
    await t.test('another argument', async () => {
      await editMachine(dir, { args: ['-no-reboot'] })
      await assert.rejects(resume(dir), failure('BAD_MACHINE', /was changed since/))
      await editMachine(dir, { args: undefined })
    })
    await t.test('a smaller disk', async () => {
      await truncate(join(dir, 'disk.img'), 8 * 2 ** 20)
      await assert.rejects(
        resume(dir),
        failure('BAD_MACHINE', /disk:disk\.img was 16777216 and is 8388608/)
      )
    })
    await t.test('memory of another size, or none, or no device state', async () => {
      await truncate(join(dir, 'state/memory'), 2 ** 20)
      await assert.rejects(resume(dir), failure('VMM_FAILED', /state\/memory has 1048576 bytes/))
      await rm(join(dir, 'state/memory'))
      await assert.rejects(resume(dir), failure('VMM_FAILED', /no state\/memory; boot/))
    })
  }
)

test('a copy of the folder alone resumes where the guest was', { skip }, async () => {
  const running = await resume(suspended)
  const guest = new Terminal(running, said)
  await guest.until(new RegExp(`tick ${ticks(said).length + 3} `))
  await assert.rejects(stat(join(suspended, 'state/device')), { code: 'ENOENT' })

  guest.type('marker')
  await guest.until(/marker kept in memory[^]*marker kept in memory/)
  guest.type('sum')
  await guest.until(new RegExp(`sum ${checksum}[^]*sum ${checksum}`))
  guest.type('write after')
  await guest.until(/wrote after/)
  guest.type('notes')
  await guest.until(/notes before after/)

  guest.type('off')
  assert.equal(await running.exited, 'the guest switched itself off')

  // Over both hosts, and byte by byte on the console: no tick is missing and none comes twice.
  const all = ticks(await guest.all())
  assert.deepEqual(
    all.map(({ tick }) => tick),
    all.map((_, i) => i + 1)
  )
  for (const [i, { uptime }] of all.entries()) {
    const since = uptime - (all[i - 1]?.uptime ?? uptime)
    assert.ok(since >= 0 && since < 10, `uptime went on by ${since} s at tick ${i + 1}`)
  }
})

test('a QEMU that is killed is noticed', { skip }, async () => {
  const runDir = await makeRunDir()
  const running = await qemu.start(await qemu.describe(first), { resume: false, runDir })
  started.push(running)
  process.kill(Number(await readFile(join(runDir, 'qemu.pid'), 'utf8')), 'SIGKILL')
  assert.match((await running.exited) ?? '', /QEMU ended with SIGKILL/)
  await assert.rejects(running.capture(), failure('VMM_FAILED', /QEMU/))
  await running.end()
})

test(
  'a disk that is full while the devices are written: the guest can go on',
  { skip },
  async () => {
    const spec = await readMachine({ dir: first, images: null })
    const runDir = await makeRunDir()
    const memoryFile = await createMemory(first, spec.memory)
    const child = await QemuProcess.launch(
      qemuArgs(spec, { folder: { dir: first, images: null }, memoryFile, resume: false }),
      runDir
    )
    const full = await open('/dev/full', 'w')
    try {
      const qmp = await Qmp.open(child.monitor)
      await adoptMemory(first)
      await prepareMigration(qmp)
      await assert.rejects(saveDevices(qmp, runDir, full), { code: 'ENOSPC' })
      await cancelMigration(qmp)
      await goOn(qmp)
      await qmp.execute('quit')
      assert.match((await child.exited) ?? '', /QEMU ended with status 0/)
    } finally {
      await full.close()
      await child.end(async () => {})
    }
  }
)

async function start(machine: Machine, resume: boolean): Promise<RunningMachine> {
  const running = await qemu.start(machine, { resume, runDir: await makeRunDir() })
  started.push(running)
  return running
}

async function resume(dir: string): Promise<RunningMachine> {
  return start(await qemu.describe(dir), true)
}

async function makeRunDir(): Promise<string> {
  return mkdtemp(join(root, `run-${'long'.repeat(30)}-`))
}

async function editMachine(dir: string, change: Record<string, unknown>): Promise<void> {
  const path = join(dir, 'machine.json')
  const machine: object = JSON.parse(await readFile(path, 'utf8'))
  await writeFile(path, JSON.stringify({ ...machine, ...change }, null, 2) + '\n')
}

function failure(code: ErrorCode, message: RegExp): (error: unknown) => boolean {
  return (error) => {
    assert.ok(error instanceof ParcelError)
    assert.equal(error.code, code)
    assert.match(error.message, message)
    return true
  }
}
