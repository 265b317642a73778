import assert from 'node:assert/strict'
import { readdir, readFile, writeFile } from 'node:fs/promises'
import { test, type TestContext } from 'node:test'
import { finish } from '../support/cli.js'
import { eventually } from '../support/hosts.js'
import { randomFile } from './blob.js'
import { gone, Place, processesOf, type User } from './place.js'

/** A host with the v86 machine "vm": its guest counts on the console, for ever. */
async function machine(t: TestContext): Promise<{ place: Place; user: User }> {
  const place = await Place.make(t)
  const user = await place.host('one')
  await place.write('vm/disk.img', Buffer.alloc(1 << 20, 'disk '))
  await user.ok('add', place.path('vm'), '--name', 'vm', '--vm', 'v86')
  return { place, user }
}

async function state(user: User): Promise<unknown> {
  return (await user.result('status', 'vm'))['state']
}

/** The guest's newest count. */
async function count(place: Place): Promise<number> {
  return eventually(async () => {
    const text = await readFile(place.path('vm/console.log'), 'latin1').catch(() => '')
    const last = [...text.matchAll(/count (\d+)\r/g)].at(-1)?.[1]
    return last === undefined ? null : Number(last)
  }, 'a count')
}

async function supervisor(user: User): Promise<number> {
  const [pid, ...others] = await processesOf(user.home, 'supervisor.js')
  assert.ok(pid !== undefined && others.length === 0, 'one supervisor')
  return pid
}

test('run, suspend, resume: it goes on with the next count, and every wrong turn is refused', async (t) => {
  const { place, user } = await machine(t)
  await user.fails(1, 'stop', 'vm')
  await user.fails(1, 'checkpoint', 'vm')
  await user.fails(1, 'attach', 'vm')
  await user.ok('run', 'vm')
  assert.equal(await state(user), 'running')
  for (const verb of ['run', 'resume']) assert.match(await user.fails(1, verb, 'vm'), /running/)
  const before = await count(place)
  await user.ok('suspend', 'vm')
  assert.equal(await state(user), 'suspended')
  assert.match(await user.fails(1, 'suspend', 'vm'), /suspended already/)
  assert.match(await user.fails(4, 'run', 'vm'), /resume vm/)
  assert.deepEqual(await readdir(place.path('vm/state')), [], 'memory in the clear')
  await user.ok('resume', 'vm', '--no-start')
  await user.ok('run', 'vm')
  await eventually(async () => ((await count(place)) > before ? true : null), 'a later count')
  const lines = (await readFile(place.path('vm/console.log'), 'latin1')).split('\r\n')
  lines.pop()
  lines.forEach((line, n) => assert.equal(line, `count ${n + 1}`))
  await user.ok('stop', 'vm')
})

test('the console: what was printed, then what is; it ends with the input', async (t) => {
  const { place, user } = await machine(t)
  await user.ok('run', 'vm')
  await count(place)
  const child = user.start('attach', 'vm')
  const ended = finish(child)
  await eventually(async () => ((await count(place)) > 3 ? true : null), 'some counts')
  child.stdin?.end()
  const { code, stdout } = await ended
  assert.equal(code, 0)
  assert.match(stdout, /^count 1\r\ncount 2\r\n/)
  assert.equal(await state(user), 'running')
  const stopped = user.start('attach', 'vm')
  const closed = finish(stopped)
  await new Promise((resolve) => stopped.stdout?.once('data', resolve))
  await user.ok('stop', 'vm')
  assert.equal((await closed).code, 0)
})

test('three runs at once start one machine', async (t) => {
  const { user } = await machine(t)
  // Not by the command line: its start would spread them out.
  const run = () => user.client.call('run', { name: 'vm', cold: false })
  const ran = await Promise.allSettled([run(), run(), run()])
  await supervisor(user)
  assert.equal(ran.filter(({ status }) => status === 'fulfilled').length, 1)
})

test('a resume and a run at once start one machine', async (t) => {
  const { place, user } = await machine(t)
  await user.ok('run', 'vm')
  await user.ok('suspend', 'vm')
  const rest = { force: false, start: true, cwd: place.dir, timeout: 1_000 }
  const ran = await Promise.allSettled([
    user.client.call('resume', { name: 'vm', ...rest }),
    user.client.call('resume', { name: 'vm', ...rest }),
    user.client.call('run', { name: 'vm', cold: true })
  ])
  await supervisor(user)
  assert.equal(ran.filter(({ status }) => status === 'fulfilled').length, 1)
})

test('a run while a suspend takes the folder waits or is refused', async (t) => {
  const { place, user } = await machine(t)
  await user.ok('run', 'vm')
  await user.ok('suspend', 'vm')
  await user.ok('resume', 'vm', '--no-start')
  await randomFile(place.path('vm/more.bin'), 256)
  const child = user.start('suspend', 'vm', '--json')
  const ended = finish(child)
  await new Promise((resolve) => child.stdout?.once('data', resolve))
  const { code } = await user.run('run', 'vm')
  assert.equal((await ended).code, 0)
  assert.notEqual(code, 0, 'the guest ran while its disk was being stored')
  await user.ok('resume', 'vm')
})

test('it survives the end of the daemon, by stop and by kill -9', async (t) => {
  const { place, user } = await machine(t)
  await user.ok('run', 'vm')
  const pid = await supervisor(user)
  await user.ok('daemon', 'stop')
  const before = await count(place)
  await eventually(async () => ((await count(place)) > before ? true : null), 'a later count')
  assert.equal(await state(user), 'running')
  await user.killDaemon()
  assert.equal(await state(user), 'running')
  assert.equal(await supervisor(user), pid)
  await user.ok('checkpoint', 'vm')
  assert.equal(await supervisor(user), pid)
  await user.ok('suspend', 'vm')
  await gone(pid)
})

test('after stop a suspend stores the disk as it is, and run boots it', async (t) => {
  const { place, user } = await machine(t)
  await user.ok('run', 'vm')
  await user.ok('suspend', 'vm')
  await user.ok('resume', 'vm')
  await user.ok('stop', 'vm')
  // As the guest would have: the disk has something that no version has.
  await place.write('vm/disk.img', Buffer.alloc(1 << 20, 'changed '))
  assert.match(await user.fails(4, 'resume', 'vm'), /suspend vm/)
  // Which is what one then does.
  const version = await user.result('suspend', 'vm')
  await user.ok('resume', 'vm', '--version', String(version['id']), '--no-start')
  assert.equal((await readFile(place.path('vm/disk.img'), 'latin1')).slice(0, 8), 'changed ')
  await user.ok('run', 'vm')
})

test('a supervisor killed -9: status says so, nothing hangs, the version before it resumes', async (t) => {
  const { place, user } = await machine(t)
  await user.ok('run', 'vm')
  const version = await user.result('checkpoint', 'vm')
  const before = await count(place)
  const pid = await supervisor(user)
  process.kill(pid, 'SIGKILL')
  await gone(pid)
  const status = await user.result('status', 'vm')
  assert.notEqual(status['state'], 'running')
  assert.notEqual(status['lastWords'], null, 'status does not say that it died')
  await user.fails(1, 'stop', 'vm')
  await user.fails(1, 'checkpoint', 'vm')
  await user.ok('resume', 'vm', '--version', String(version['id']), '--force')
  assert.equal(await state(user), 'running')
  assert.ok((await count(place)) >= before - 1)
})

test('a machine that ended by itself shows in status', async (t) => {
  const place = await Place.make(t)
  const user = await place.host('one')
  // cli; hlt at the reset vector
  const rom = Buffer.alloc(65_536, 0x90)
  rom.set([0xfa, 0xf4], 0xfff0)
  await place.write('vm/rom.bin', rom)
  await place.write(
    'vm/machine.json',
    JSON.stringify({ vmm: 'v86', memory: '4M', bios: 'rom.bin' })
  )
  await user.ok('add', place.path('vm'), '--name', 'vm', '--vm', 'v86')
  await user.run('run', 'vm')
  await eventually(async () => ((await state(user)) === 'running' ? null : true), 'its end')
  assert.match(await user.ok('status', 'vm'), /its machine ended: .*halted/)
})

test('a wrong machine file is exit 1 and names the field, before anything is registered', async (t) => {
  const place = await Place.make(t)
  const user = await place.host('one')
  for (const [bad, word] of [
    ['not json', 'machine.json'],
    ['{}', 'vmm'],
    ['{"vmm":"v86","memory":"5M"}', 'memory'],
    ['{"vmm":"v86","memory":"4M","disks":[{"file":"../x"}]}', 'file'],
    ['{"vmm":"v86","memory":"4M","disks":[{"file":"gone.img"}]}', 'gone.img'],
    ['{"vmm":"qemu","memory":"4M"}', 'vmm']
  ] as const) {
    await place.write('vm/machine.json', bad)
    const line = await user.fails(1, 'add', place.path('vm'), '--name', 'vm', '--vm', 'v86')
    assert.ok(line.includes(word), line)
  }
  assert.match(await user.ok('ls', '--json'), /no parcels/)
  await writeFile(place.path('vm/machine.json'), '{"vmm":"v86","memory":"4M"}')
  await user.ok('add', place.path('vm'), '--name', 'vm', '--vm', 'v86')
})

test('a daemon killed -9 in the middle of a suspend: the guest goes on', async (t) => {
  const { place, user } = await machine(t)
  await user.ok('run', 'vm')
  const pid = await supervisor(user)
  await place.write(
    'vm/more.bin',
    Buffer.alloc(64 << 20).map((_, n) => (n * n) >> 7)
  )
  const child = user.start('suspend', 'vm', '--json')
  const ended = finish(child)
  await eventually(
    async () => ((await readdir(place.path('vm/state')).catch(() => [])).length > 0 ? true : null),
    'a captured guest'
  )
  await user.killDaemon()
  assert.equal((await ended).code, 1)
  const before = await count(place)
  await eventually(async () => ((await count(place)) > before ? true : null), 'a later count')
  assert.equal(await supervisor(user), pid)
  assert.equal((await user.result('status', 'vm'))['versions'], 0)
  await user.ok('suspend', 'vm')
  await user.ok('resume', 'vm')
})

test('checkpoint --idle: one when it has done little for a while, and no more until it has done something', async (t) => {
  const { user } = await machine(t)
  assert.equal((await user.run('checkpoint', 'vm', '--idle', '1s')).code, 2)
  const set = await user.result('checkpoint', 'vm', '--idle', '5s')
  assert.deepEqual([set['every'], set['idle']], [null, 5_000])
  assert.match(await user.ok('status', 'vm'), /a checkpoint when it has done little for 5.0 s/)
  await user.ok('run', 'vm')
  const versions = async (): Promise<number> =>
    Number((await user.result('status', 'vm'))['versions'])
  await eventually(async () => (await versions()) === 1 || null, 'a checkpoint', 60_000)
  await new Promise((resolve) => setTimeout(resolve, 8_000))
  assert.equal(await versions(), 1)
  assert.match(await user.ok('checkpoint', 'vm', '--idle', 'off'), /no checkpoints by themselves/)
  await user.ok('stop', 'vm')
})

test('checkpoint --every: versions come by themselves while it runs, and no more when it is off', async (t) => {
  const { place, user } = await machine(t)
  assert.equal((await user.run('checkpoint', 'vm', '--every', '1s')).code, 2)
  assert.equal((await user.run('checkpoint', 'vm', '--every', 'often')).code, 2)
  assert.match(await user.ok('checkpoint', 'vm', '--every', '5s'), /every 5.0 s while it runs here/)
  await user.ok('run', 'vm')
  const versions = async (): Promise<number> =>
    Number((await user.result('status', 'vm'))['versions'])
  await eventually(async () => ((await versions()) >= 2 ? true : null), 'two checkpoints', 60_000)
  assert.equal(await state(user), 'running')
  assert.match(await user.ok('status', 'vm'), /a checkpoint every 5.0 s while it runs here/)
  assert.ok((await count(place)) > 0)
  assert.match(await user.ok('checkpoint', 'vm', '--every', 'off'), /no checkpoints by themselves/)
  const before = await versions()
  await new Promise((resolve) => setTimeout(resolve, 7_500))
  assert.equal(await versions(), before)
  await user.ok('stop', 'vm')
})
