import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { access, readdir, readFile } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { test } from 'node:test'
import { diskRom } from '../guest/disk-rom.js'
import { Place } from '../cli/place.js'
import { finish } from '../support/cli.js'
import { eventually } from '../support/hosts.js'
import {
  SKIP,
  PAGE_BLOCKS,
  SUM,
  DATA_SUM,
  Hosts,
  handOver,
  resumeUnfetched,
  status,
  ask,
  nextTick,
  Console,
  touch,
  stalled
} from './demand-hosts.js'

/** Ctrl-C while a resume waits for the first blocks of a host that does not answer any more. */
async function interruptResume(hosts: Hosts): Promise<void> {
  const { a, b, place } = hosts
  const to = hosts.to(b)
  const pid = await a.daemonPid()
  const before = await readdir(place.dir)
  const resume = b.start('resume', 'vm', '--no-prefetch', '--to', to)
  const ended = finish(resume)
  const partial = place.path(`.${basename(to)}.hyperparcel-partial`)
  const isThere = () =>
    access(partial).then(
      () => true as const,
      () => null
    )
  await eventually(isThere, 'a folder that is being written')
  process.kill(pid, 'SIGSTOP')
  resume.kill('SIGINT')
  assert.equal((await ended).code, 130)
  assert.deepEqual(await readdir(place.dir), before)
  // Before it goes on: nothing is to be fetched behind our back.
  await b.ok('daemon', 'stop')
  process.kill(pid, 'SIGCONT')
}

test(
  'three hand-overs with work in between; what is suspended is not fetched',
  { skip: SKIP },
  async (t) => {
    const hosts = await Hosts.start(t)
    let [here, there] = [hosts.a, hosts.b]
    await interruptResume(hosts)
    let last = { tick: 0, uptime: 0 }
    const notes: string[] = []
    for (let round = 0; round < 3; round++) {
      ;[here, there] = [there, here]
      const resumed = await hosts.resume(here)
      assert.equal(resumed['isRunning'], true)
      const tick = await nextTick(here)
      assert.ok(tick.tick > last.tick && tick.uptime > last.uptime, JSON.stringify([last, tick]))
      notes.push(`round ${round}`, `more ${round}`)
      await ask(here, `write round ${round}`, /wrote round \d/)
      await ask(here, 'fill 4', /filled 4/)
      const before = await status(here)
      const { fetched } = await here.result('checkpoint', 'vm')
      const missing = before.blocks.total - before.blocks.here
      t.diagnostic(
        `round ${round}: ${missing} blocks are not here, a checkpoint needed ${Number(fetched)}`
      )
      assert.ok(round === 1 || missing > 0, 'all of it was here')
      assert.ok(Number(fetched) <= PAGE_BLOCKS, 'a checkpoint fetched contents')
      await ask(here, `write more ${round}`, /wrote more \d/)
      assert.match(await ask(here, 'notes', /notes (.*)\r?\n/), new RegExp(notes.join(' ')))
      last = await nextTick(here)
      if (round === 2) assert.equal(await ask(here, 'sum', SUM), DATA_SUM)
      else {
        await handOver(t, here, there)
        await hosts.hold(here)
      }
    }
    const console = await readFile(join(hosts.to(here), 'console.log'), 'latin1')
    assert.equal((console.match(/guest up/g) ?? []).length, 1, 'it booted once')
    assert.deepEqual((await status(here)).problems, [])
    await here.ok('stop', 'vm')
  }
)

test('a v86 machine has its disk on demand, and waits for it like QEMU', async (t) => {
  const place = await Place.make(t)
  const [a, b] = [await place.host('a'), await place.host('b')]
  const disk = randomBytes(2 << 20)
  for (let at = 0; at < disk.byteLength; at += 128 << 10) disk.write('A', at)
  await place.write('vm/disk.img', disk)
  await place.write('vm/disk.rom', diskRom())
  const machine = { vmm: 'v86', memory: '1M', bios: 'disk.rom', disks: [{ file: 'disk.img' }] }
  await place.write('vm/machine.json', JSON.stringify(machine))
  await a.ok('add', place.path('vm'), '--name', 'vm', '--vm', 'v86')
  const { invite } = await a.result('invite', 'vm')
  await b.ok('join', String(invite))
  await a.ok('run', 'vm')
  await touch(a, 'b', 'A')
  await handOver(t, a, b)
  const { code, stdout } = await resumeUnfetched(a, b, '--to', place.path('on-b'))
  assert.equal(code, 0, stdout)
  assert.deepEqual((await readdir(place.path('on-b'))).includes('disk.img'), false)
  await touch(b, 'b', 'B')

  await a.ok('daemon', 'stop')
  const console = new Console(b)
  console.send('n')
  assert.deepEqual((await stalled(b)).images?.stall?.from, ['a (not connected)'])
  assert.match(await b.fails(6, 'suspend', 'vm'), /cannot be stopped/)
  await a.ok('status', 'vm')
  await console.find(/n=A\r\n/, 0, 'n')
  await console.close()
  await touch(b, 'n', 'B')
  await handOver(t, b, a)
  await a.ok('resume', 'vm', '--no-prefetch')
  for (const [letter, answer] of [
    ['b', 'C'],
    ['n', 'C'],
    ['c', 'A']
  ] as const)
    await touch(a, letter, answer)

  await a.ok('stop', 'vm')
})
