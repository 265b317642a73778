import assert from 'node:assert/strict'
import { rm, statfs, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { processesOf } from '../cli/place.js'
import { eventually } from '../support/hosts.js'
import { NO_MOUNT, smallDisk } from '../support/small-disk.js'
import {
  SKIP,
  SUM,
  DATA_SUM,
  Hosts,
  handOver,
  status,
  ask,
  nextTick,
  Console,
  monitorsOf,
  monitor,
  stalled
} from './demand-hosts.js'

test(
  'an image server that is killed: the guest ends, its unsaved work is said to be lost, its version is not',
  { skip: SKIP },
  async (t) => {
    const hosts = await Hosts.start(t)
    const { a, b } = hosts
    await hosts.resume(b)
    await ask(b, 'write unsaved', /wrote unsaved/)
    // The daemon is killed first, and then ends by itself: the guest does not notice.
    const [server] = await processesOf(b.home, 'image-server.js')
    assert.ok(server !== undefined)
    await b.killDaemon()
    await nextTick(b)
    assert.equal(await ask(b, 'sum', SUM), DATA_SUM)
    await b.ok('daemon', 'stop')
    await nextTick(b)
    assert.deepEqual(await processesOf(b.home, 'image-server.js'), [server])

    await ask(b, 'sum', null)
    process.kill(server, 'SIGKILL')
    const { lastWords } = await eventually(async () => {
      const info = await status(b)
      return info.state === 'running' ? null : info
    }, 'the end of the guest')
    assert.match(lastWords ?? '', /is lost/)
    assert.deepEqual(await monitorsOf(b.home), [])
    assert.match(await b.fails(4, 'resume', 'vm', '--no-prefetch'), /--cold/)
    await b.ok('resume', 'vm', '--no-prefetch', '--force')
    assert.equal(await ask(b, 'sum', SUM), DATA_SUM)
    assert.doesNotMatch(await ask(b, 'notes', /(notes.*)\r?\n/), /unsaved/)
    await ask(b, 'write again', /wrote again/)
    const [other] = await processesOf(b.home, 'image-server.js')
    assert.ok(other !== undefined)
    process.kill(other, 'SIGKILL')
    await eventually(async () => ((await status(b)).state === 'running' ? null : true), 'the end')
    await b.ok('run', 'vm', '--cold')
    assert.match(await ask(b, 'notes', /(notes.*)\r?\n/), /again/)
    assert.equal(await ask(b, 'sum', SUM), DATA_SUM)
    await handOver(t, b, a)
    await hosts.resume(a)
    assert.equal(await ask(a, 'sum', SUM), DATA_SUM)
    assert.match(await ask(a, 'notes', /(notes.*)\r?\n/), /again/)
  }
)

test(
  'a full disk under what is written: the guest waits, and goes on when there is room',
  { skip: SKIP === false ? NO_MOUNT : SKIP },
  async (t) => {
    const disk = await smallDisk(t, 64)
    const hosts = await Hosts.start(t)
    const { a, b } = hosts
    const to = join(disk, 'vm')
    await b.ok('resume', 'vm', '--no-prefetch', '--to', to)
    await ask(b, 'write before', /wrote before/)
    const { bavail, bsize } = await statfs(disk)
    const ballast = join(disk, 'ballast')
    await writeFile(ballast, Buffer.alloc(bavail * bsize - (6 << 20)))
    const console = new Console(b)
    // More than the disk has room for, and not so much that the guest runs out of memory.
    const from = await console.type('fill 16')
    await console.type('write after')
    const { images } = await stalled(b)
    assert.match(images?.stall?.why ?? '', /full/)
    await monitor(b)
    await rm(ballast)
    await console.find(/wrote after/, from, 'a write')
    await console.close()
    assert.equal(await ask(b, 'sum', SUM), DATA_SUM)
    await eventually(
      async () => ((await status(b)).images?.stall === null ? true : null),
      'no stall'
    )
    await handOver(t, b, a)
    await hosts.resume(a)
    assert.equal(await ask(a, 'sum', SUM), DATA_SUM)
    assert.match(await ask(a, 'notes', /notes (.*)\r?\n/), /before after/)
  }
)
