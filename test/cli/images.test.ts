import assert from 'node:assert/strict'
import type { ChildProcess } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { appendFile, mkdir, readFile, stat } from 'node:fs/promises'
import { createInterface } from 'node:readline'
import { test } from 'node:test'
import { noFuse } from '../../lib/vmm/namespace.js'
import { diskRom } from '../guest/disk-rom.js'
import { touch } from '../host/demand-hosts.js'
import { onEnd } from '../support/on-end.js'
import { missing, output } from '../support/programs.js'
import { isRoot, Place, type User } from './place.js'

const MOUNTS = { skip: isRoot ? (noFuse() ?? false) : 'needs root for a mount that all see' }
const CLIENTS = { skip: missing(['nbdinfo', 'qemu-img', 'qemu-io']) }

interface Line {
  [name: string]: unknown
}

/** Starts a verb that serves until it is told to end; returns its first word. */
async function serve(user: User, ...args: string[]): Promise<{ child: ChildProcess; first: Line }> {
  const child = user.start(...args, '--json')
  assert.ok(child.stdout !== null)
  for await (const line of createInterface({ input: child.stdout })) {
    const first: Line = JSON.parse(line)
    if (first['type'] === 'progress') continue
    assert.notEqual(first['type'], 'error', line)
    return { child, first }
  }
  throw new Error('it ended without a word')
}

async function end(child: ChildProcess): Promise<number | null> {
  if (child.exitCode !== null) return child.exitCode
  const ended = once(child, 'exit')
  child.kill('SIGINT')
  await ended
  return child.exitCode
}

test('a mounted version is a folder, and keeps what is written to it', MOUNTS, async (t) => {
  const place = await Place.make(t)
  const user = await place.host('a')
  const contents = randomBytes(3_000_000)
  await place.write('files/sub/big', contents)
  await place.write('files/small', 'small')
  await user.ok('add', place.path('files'), '--name', 'files', '--vm', 'folder')
  await user.ok('suspend', 'files')
  const mnt = place.path('mnt')
  await mkdir(mnt)
  const { child } = await serve(user, 'mount', 'files', mnt)
  onEnd(t, () => end(child))
  assert.deepEqual(await readFile(`${mnt}/sub/big`), contents)
  await appendFile(`${mnt}/small`, ' and more')
  // Another one of the same overlays would be the end of both.
  assert.match(await user.fails(1, 'nbd', 'files'), /open in another process/)
  // Whoever reads only waits while the store changes hands.
  await user.killDaemon()
  assert.equal(await output('sha256sum', [`${mnt}/sub/big`]).then((text) => text.length > 64), true)
  assert.equal(await end(child), 0)
  await assert.rejects(stat(`${mnt}/small`))
  const again = await serve(user, 'mount', 'files', mnt, '--read-only')
  onEnd(t, () => end(again.child))
  assert.equal(await readFile(`${mnt}/small`, 'utf8'), 'small and more')
  await assert.rejects(appendFile(`${mnt}/small`, 'no'), { code: 'EROFS' })
  assert.equal(await end(again.child), 0)
  assert.equal(await readFile(place.path('files/small'), 'utf8'), 'small')
  const third = await serve(user, 'mount', 'files', mnt)
  onEnd(t, () => end(third.child))
  assert.match(await user.fails(1, 'suspend', 'files', '--mounted'), /is open: end its 'mount'/)
  assert.equal(await end(third.child), 0)
  await user.ok('suspend', 'files', '--mounted')
  assert.match(await user.fails(1, 'suspend', 'files', '--mounted'), /nothing was written/)
  await user.ok('resume', 'files')
  assert.equal(await readFile(place.path('files/small'), 'utf8'), 'small and more')
  assert.deepEqual(await readFile(place.path('files/sub/big')), contents)
})

test('the files of a version are block devices by their paths', CLIENTS, async (t) => {
  const place = await Place.make(t)
  const user = await place.host('a')
  const path = await place.write('files/disks/a b.img', randomBytes(300_000))
  await user.ok('add', place.path('files'), '--name', 'files', '--vm', 'folder')
  await user.ok('suspend', 'files')
  const socket = place.path('nbd.sock')
  const { child, first } = await serve(user, 'nbd', 'files', '--socket', socket)
  onEnd(t, () => end(child))
  const exports: unknown = first['exports']
  assert.ok(Array.isArray(exports))
  const uri = `nbd+unix:///disks/a%20b.img?socket=${socket}`
  assert.deepEqual(exports, [{ path: 'disks/a b.img', uri }])
  await output('qemu-img', ['compare', '-f', 'raw', '-F', 'raw', path, uri])
  await output('qemu-io', ['-f', 'raw', uri, '-c', 'write -P 5 1000 5000'])
  assert.equal(await end(child), 0)
  const tcp = await serve(user, 'nbd', 'files', '--port', '0')
  onEnd(t, () => end(tcp.child))
  const [{ uri: byTcp }] = Array.isArray(tcp.first['exports']) ? tcp.first['exports'] : []
  await output('qemu-io', ['-f', 'raw', '-r', String(byTcp), '-c', 'read -P 5 1000 5000'])
  assert.equal(await end(tcp.child), 0)
  assert.match(await user.fails(2, 'nbd', 'files', '--port', '0', '--socket', socket), /either/)
})

test(
  'what is written to the disk of a suspended guest is a version that boots',
  CLIENTS,
  async (t) => {
    const place = await Place.make(t)
    const user = await place.host('a')
    await place.write('vm/disk.img', Buffer.alloc(1 << 20, 'A'))
    await place.write('vm/disk.rom', diskRom())
    const machine = { vmm: 'v86', memory: '1M', bios: 'disk.rom', disks: [{ file: 'disk.img' }] }
    await place.write('vm/machine.json', JSON.stringify(machine))
    await user.ok('add', place.path('vm'), '--name', 'vm', '--vm', 'v86')
    await user.ok('run', 'vm')
    await touch(user, 'b', 'A')
    await user.ok('suspend', 'vm')
    const socket = place.path('nbd.sock')
    const { child } = await serve(user, 'nbd', 'vm', '--socket', socket)
    onEnd(t, () => end(child))
    const uri = `nbd+unix:///disk.img?socket=${socket}`
    await output('qemu-io', ['-f', 'raw', uri, '-c', 'write -P 0x51 0 4096'])
    assert.equal(await end(child), 0)
    assert.match(
      await user.fails(4, 'suspend', 'vm', '--mounted'),
      /--cold makes a version without/
    )
    assert.match(await user.fails(2, 'suspend', 'vm', '--cold'), /goes with --mounted/)
    const version = await user.result('suspend', 'vm', '--mounted', '--cold')
    assert.ok(Number(version['stored']) < 100_000)
    await user.ok('resume', 'vm')
    await touch(user, 'a', 'Q')
    await touch(user, 'b', 'B')
    await user.ok('stop', 'vm')
  }
)
