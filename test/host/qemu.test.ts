import assert from 'node:assert/strict'
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test, type TestContext } from 'node:test'
import { buildGuest, missingForQemu } from '../../examples/demo/linux-guest.js'
import { homeDir, openHome } from '../../lib/index.js'
import { loadStates } from '../../lib/parcel/local-state.js'
import { Cli, finish, homeIn } from '../support/cli.js'
import { eventually, testDht } from '../support/hosts.js'
import { onEnd } from '../support/on-end.js'
import { scratch } from '../support/scratch.js'
import { encodings, search } from '../support/search.js'

const MARKER = 'MARKER-of-the-guest-7f3a9c'

interface Tick {
  tick: number
  uptime: number
}

/** Types a command on the guest's console and waits for what it answers. */
async function ask(cli: Cli, name: string, command: string, answer: RegExp): Promise<string> {
  const child = cli.start('attach', name)
  let text = ''
  child.stdout?.setEncoding('utf8').on('data', (part: string) => (text += part))
  const ended = finish(child)
  child.stdin?.write(`${command}\n`)
  const found = await eventually(() => answer.exec(text), `${command} on ${name}: ${text}`, 60_000)
  child.stdin?.end()
  await ended
  return found[1] ?? found[0]
}

async function lastTick(cli: Cli, name: string): Promise<Tick> {
  const child = cli.start('attach', name)
  let text = ''
  child.stdout?.setEncoding('utf8').on('data', (part: string) => (text += part))
  const ended = finish(child)
  const tick = await eventually(() => ticks(text).at(-1) ?? null, 'a tick', 60_000)
  child.stdin?.end()
  await ended
  return tick
}

function ticks(text: string): Tick[] {
  const lines = text.matchAll(/tick (\d+) uptime ([\d.]+)\r?\n/g)
  return [...lines].map(([, tick, uptime]) => ({ tick: Number(tick), uptime: Number(uptime) }))
}

async function secrets(home: string): Promise<Map<string, Buffer>> {
  const { identity } = await openHome(homeDir(home))
  const needles = new Map<string, Buffer>([['marker', Buffer.from(MARKER)]])
  const add = (name: string, secret: Buffer): void => {
    for (const [encoding, needle] of encodings(secret)) needles.set(`${name} (${encoding})`, needle)
  }
  const exported = identity.export()
  for (const [i, name] of ['seed', 'at rest', 'index'].entries()) {
    add(name, exported.subarray(i * 32, (i + 1) * 32))
  }
  for (const state of await loadStates(join(home, 'parcels'), identity.atRest)) {
    for (const { epochKey, controlKey } of state.epochs) {
      add('epoch key', Buffer.from(epochKey ?? '', 'hex'))
      add('control key', Buffer.from(controlKey, 'hex'))
    }
    for (const kind of ['control', 'meta', 'data'] as const) {
      add(`${kind} seed`, Buffer.from(state.incarnation?.[kind] ?? '', 'hex'))
    }
  }
  return needles
}

async function requireNoSecrets(t: TestContext, home: string): Promise<void> {
  const needles = await secrets(home)
  const found = await search(home, needles, (path) => path.endsWith('/identity.key'))
  assert.deepEqual(found, [])
  // The search itself works: the key file has the seed in hex.
  const inKeyFile = await search(home, needles)
  assert.ok(inKeyFile.some((line) => line.includes('identity.key: seed (hex)')))
  t.diagnostic(`${needles.size} secrets searched for in ${home}`)
}

test(
  'a Linux guest goes on where it stopped, on another host',
  { skip: missingForQemu() ?? false },
  async (t) => {
    const dir = await scratch(t)
    const { address } = await testDht(t)
    const laptop = new Cli(t, homeIn(dir, 'laptop'), address, dir)
    const desk = new Cli(t, homeIn(dir, 'desk'), address, dir)
    const folder = join(dir, 'machine')
    await mkdir(folder)
    await buildGuest(folder, { memory: '128M', diskMiB: 32, marker: MARKER })
    const file = join(folder, 'machine.json')
    const machine: object = JSON.parse(await readFile(file, 'utf8'))
    await writeFile(file, JSON.stringify({ ...machine, display: 'vnc', network: 'user' }))
    await laptop.result('init', '--name', 'laptop')
    await desk.result('init', '--name', 'desk')
    await laptop.result('add', folder, '--name', 'linux', '--vm', 'qemu')
    // A machine outlives its verb, its daemon and a test that fails.
    onEnd(t, () => Promise.all([laptop.run('stop', 'linux'), desk.run('stop', 'linux')]))
    await laptop.result('run', 'linux')
    await lastTick(laptop, 'linux')

    const sum = await ask(laptop, 'linux', 'sum', /sum ([0-9a-f]{64})/)
    await ask(laptop, 'linux', 'write carried over', /wrote carried over/)
    assert.match((await laptop.run('status', 'linux')).stdout, /running, screen vnc\+unix:/)

    // The machine outlives the daemon.
    await laptop.result('daemon', 'stop')
    const before = await lastTick(laptop, 'linux')
    const checkpoint = await laptop.result('checkpoint', 'linux')
    const between = await lastTick(laptop, 'linux')
    assert.ok(between.tick >= before.tick)
    const suspended = await laptop.result('suspend', 'linux')
    assert.deepEqual(suspended['parents'], [checkpoint['id']])
    await requireNoSecrets(t, laptop.home)

    const { invite } = await laptop.result('invite', 'linux')
    await desk.result('join', String(invite))
    const resumed = await desk.result('resume', 'linux', '--to', join(dir, 'on-desk'))
    assert.equal(resumed['isRunning'], true)

    const after = await lastTick(desk, 'linux')
    const console = await readFile(join(dir, 'on-desk', 'console.log'), 'utf8')
    const counted = ticks(console).map(({ tick }) => tick)
    counted.forEach((tick, i) => {
      assert.ok(
        i === 0 || tick === (counted[i - 1] ?? 0) + 1,
        `tick ${tick} after ${counted[i - 1]}`
      )
    })
    assert.ok(after.tick > between.tick && after.uptime > between.uptime)
    assert.equal((console.match(/guest up/g) ?? []).length, 1, 'it booted once')
    assert.equal(await ask(desk, 'linux', 'sum', /sum ([0-9a-f]{64})/), sum)
    assert.match(await ask(desk, 'linux', 'notes', /notes (.*)\r?\n/), /carried over/)
    assert.match(await ask(desk, 'linux', 'marker', /marker (\S+)\r?\n/), new RegExp(MARKER))

    // And back again, with what was done there.
    await ask(desk, 'linux', 'write done on desk', /wrote done on desk/)
    await desk.result('suspend', 'linux')
    await requireNoSecrets(t, desk.home)
    await laptop.result('resume', 'linux')
    assert.match(
      await ask(laptop, 'linux', 'notes', /notes (.*)\r?\n/),
      /carried over done on desk/
    )
    assert.equal(await ask(laptop, 'linux', 'sum', /sum ([0-9a-f]{64})/), sum)
    await laptop.result('stop', 'linux')
  }
)

test(
  'a guest that was stopped without a suspend: its disk is stored and boots, its memory is not',
  { skip: missingForQemu() ?? false },
  async (t) => {
    const dir = await scratch(t)
    const { address } = await testDht(t)
    const host = new Cli(t, homeIn(dir, 'host'), address, dir)
    const folder = join(dir, 'machine')
    await mkdir(folder)
    await buildGuest(folder, { memory: '96M', diskMiB: 32, marker: MARKER })
    await host.result('init', '--name', 'host')
    await host.result('add', folder, '--name', 'linux', '--vm', 'qemu')
    onEnd(t, () => host.run('stop', 'linux'))
    await host.result('run', 'linux')
    await lastTick(host, 'linux')
    await ask(host, 'linux', 'write before', /wrote before/)
    await host.result('stop', 'linux')
    await host.result('suspend', 'linux')
    assert.deepEqual(await readdir(join(folder, 'state')), [])
    await host.result('resume', 'linux')
    await lastTick(host, 'linux')
    assert.match(await ask(host, 'linux', 'notes', /notes (.*)\r?\n/), /before/)
    const console = await readFile(join(folder, 'console.log'), 'utf8')
    assert.equal((console.match(/guest up/g) ?? []).length, 2)
    await host.result('stop', 'linux')
  }
)
