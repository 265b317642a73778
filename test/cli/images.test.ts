import assert from 'node:assert/strict'
import { spawn, type ChildProcess } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { constants } from 'node:fs'
import {
  appendFile,
  chmod,
  chown,
  link,
  lstat,
  mkdir,
  open,
  readdir,
  readFile,
  rename,
  rm,
  rmdir,
  stat,
  symlink,
  truncate,
  unlink,
  utimes,
  writeFile
} from 'node:fs/promises'
import { createInterface } from 'node:readline'
import { test, type TestContext } from 'node:test'
import * as fc from 'fast-check'
import { noFuse } from '../../lib/vmm/namespace.js'
import { diskRom } from '../guest/disk-rom.js'
import { touch } from '../host/demand-hosts.js'
import { onEnd } from '../support/on-end.js'
import { missing, output } from '../support/programs.js'
import { isRoot, NOBODY, Place, type User } from './place.js'

const MOUNTS = { skip: isRoot ? (noFuse() ?? false) : 'needs root for a mount that all see' }
const PLAIN = {
  skip: isRoot
    ? (noFuse() ?? missing(['fusermount3', 'setpriv', 'perl', 'unshare', 'nsenter', 'mknod']))
    : 'needs root'
}
const CLIENTS = { skip: missing(['nbdinfo', 'nbdcopy', 'qemu-img', 'qemu-io']) }

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

test(
  'folders of a mounted version change as any do, and a version has it all',
  MOUNTS,
  async (t) => {
    const place = await Place.make(t)
    const user = await place.host('a')
    const model = place.path('model')
    for (let n = 0; n < 40; n++) {
      const path = `${n % 3 === 0 ? '' : `d${n % 3}/`}${n % 5 === 0 ? 'deep/' : ''}f${n}`
      await place.write(`files/${path}`, randomBytes(n * 997))
      await place.write(`model/${path}`, await readFile(place.path('files', path)))
    }
    await user.ok('add', place.path('files'), '--name', 'files', '--vm', 'folder')
    await user.ok('suspend', 'files')
    const mnt = place.path('mnt')
    await mkdir(mnt)
    let { child, first } = await serve(user, 'mount', 'files', mnt)
    onEnd(t, () => end(child))
    const steps = randomSteps(600)
    t.diagnostic(`seed ${steps.seed}`)
    for (const [n, step] of steps.all.entries()) {
      const outcomes = [await carryOut(mnt, step), await carryOut(model, step)]
      assert.equal(outcomes[0], outcomes[1], `${n}: ${JSON.stringify(step)}`)
      if (n % 200 !== 199) continue
      assert.deepEqual(await lookAt(mnt), await lookAt(model))
      if (n === 199) assert.equal(await end(child), 0)
      else {
        // Nothing that was acknowledged goes with the process.
        process.kill(Number(first['pid']), 'SIGKILL')
        await once(child, 'exit')
        assert.deepEqual(await readdir(mnt), [], 'what was mounted is gone with it')
      }
      ;({ child, first } = await serve(user, 'mount', 'files', mnt))
      const again = child
      onEnd(t, () => end(again))
      assert.deepEqual(await lookAt(mnt), await lookAt(model))
    }
    // Open, removed, and still there for whoever has it open.
    const held = await open(`${mnt}/held`, 'wx+')
    await held.write('kept')
    await rm(`${mnt}/held`)
    await held.write(' on')
    assert.equal(String((await held.read(Buffer.alloc(7), 0, 7, 0)).buffer), 'kept on')
    await held.close()
    await assert.rejects(link(`${mnt}/${(await readdir(mnt))[0]}`, `${mnt}/second`), {
      code: 'EPERM'
    })
    await assert.rejects(output('mkfifo', [`${mnt}/pipe`]), /not permitted/)
    assert.equal(await end(child), 0)
    await user.ok('suspend', 'files', '--mounted')
    await user.ok('resume', 'files')
    assert.deepEqual(await lookAt(place.path('files')), await lookAt(model))
  }
)

/**
 * By what a program is run where everyone may open /dev/fuse, as on most systems: nothing if that is
 * so here, else a mount namespace.
 */
async function openFuse(t: TestContext, node: string): Promise<string[]> {
  if (((await stat('/dev/fuse')).mode & 0o006) === 0o006) return []
  await output('mknod', [node, 'c', '10', '229'])
  await chmod(node, 0o666)
  const script = 'mount --bind "$0" /dev/fuse && echo ready && exec sleep 600'
  const keeper = spawn('unshare', ['-m', 'sh', '-c', script, node], {
    stdio: ['ignore', 'pipe', 'inherit']
  })
  onEnd(t, () => keeper.kill())
  await once(keeper.stdout, 'data')
  return ['nsenter', '-t', String(keeper.pid), '-m']
}

test('a plain user mounts for themselves, and lets go of it while it is used', PLAIN, async (t) => {
  const place = await Place.make(t)
  await chmod(place.dir, 0o777)
  const there = await openFuse(t, place.path('fuse'))
  const who = ['setpriv', '--reuid', String(NOBODY), '--regid', String(NOBODY), '--clear-groups']
  const user = await place.host('a', { by: [...there, ...who] })
  await place.write('files/small', 'small')
  await chown(place.path('files'), NOBODY, NOBODY)
  await chown(place.path('files/small'), NOBODY, NOBODY)
  await user.ok('add', place.path('files'), '--name', 'files', '--vm', 'folder')
  await user.ok('suspend', 'files')
  const mnt = place.path('mnt')
  const run = ([program = '', ...args]: string[]): Promise<string> => output(program, args)
  const as = (...args: string[]): Promise<string> => run([...there, ...who, ...args])
  const { child } = await serve(user, 'mount', 'files', mnt)
  onEnd(t, () => end(child))
  await as('sh', '-c', `cat ${mnt}/small > ${mnt}/copy && mkdir ${mnt}/new`)
  await assert.rejects(run([...there, 'cat', `${mnt}/small`]), /Permission denied/)
  await as('fusermount3', '-u', mnt)
  assert.equal(await end(child), 0)
  const again = await serve(user, 'mount', 'files', mnt)
  onEnd(t, () => end(again.child))
  const holding = `exec 3<${mnt}/copy; echo open; exec sleep 60`
  const holder = spawn('env', [...there, ...who, 'sh', '-c', holding])
  onEnd(t, () => holder.kill())
  await once(holder.stdout, 'data')
  assert.equal(await end(again.child), 0)
  assert.equal(await as('ls', mnt), '')
  await user.ok('suspend', 'files', '--mounted')
  await user.ok('resume', 'files')
  assert.equal(await readFile(place.path('files/copy'), 'utf8'), 'small')
  await writeFile(place.path('a file'), '')
  assert.match(await user.fails(1, 'mount', 'files', place.path('a file')), /it is no folder/)
  await mkdir(place.path('of root'), { mode: 0o755 })
  assert.match(
    await user.fails(1, 'mount', 'files', place.path('of root')),
    /cannot mount: .*access/
  )
})

type Step =
  | { op: 'write'; path: string; seed: number; at: number; size: number }
  | { op: 'mkdir' | 'rmdir' | 'unlink' | 'exclusive'; path: string }
  | { op: 'rename' | 'symlink'; path: string; to: string }
  | { op: 'truncate' | 'chmod' | 'times'; path: string; value: number }

function randomSteps(count: number): { seed: number; all: Step[] } {
  const names = [
    'd1',
    'd2',
    'deep',
    'f0',
    'f3',
    'f5',
    'new',
    'd1/f1',
    'd1/new',
    'd2/f2',
    'd2/deep',
    'd1/deep/f10'
  ]
  const more = ['deep/f15', 'd2/deep/f5', 'new/x', 'new/y', 'd1/new/z', 'deep/n\u00e4me']
  const path = fc.constantFrom(...names, ...more)
  const value = fc.nat(300_000)
  const step: fc.Arbitrary<Step> = fc.oneof(
    fc.record({
      op: fc.constant('write' as const),
      path,
      seed: fc.nat(255),
      at: value,
      size: fc.nat(9_000)
    }),
    fc.record({
      op: fc.constantFrom(
        'mkdir' as const,
        'rmdir' as const,
        'unlink' as const,
        'exclusive' as const
      ),
      path
    }),
    fc.record({ op: fc.constantFrom('rename' as const, 'symlink' as const), path, to: path }),
    fc.record({
      op: fc.constantFrom('truncate' as const, 'chmod' as const, 'times' as const),
      path,
      value
    })
  )
  const seed = randomBytes(4).readInt32LE(0)
  return { seed, all: fc.sample(step, { numRuns: count, seed }) }
}

/** What became of a step: 'ok', or the code of its error. */
async function carryOut(dir: string, step: Step): Promise<string> {
  const path = `${dir}/${step.path}`
  try {
    if (step.op === 'write') {
      const file = await open(path, constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW)
      await file.write(Buffer.alloc(step.size, step.seed), 0, step.size, step.at)
      await file.close()
    } else if (step.op === 'mkdir') await mkdir(path)
    else if (step.op === 'rmdir') await rmdir(path)
    else if (step.op === 'unlink') await unlink(path)
    else if (step.op === 'exclusive') await writeFile(path, step.path, { flag: 'wx' })
    else if (step.op === 'rename') await rename(path, `${dir}/${step.to}`)
    else if (step.op === 'symlink') await symlink(step.to, path)
    else if ((await lstat(path)).isSymbolicLink()) return 'a link'
    else if (step.op === 'truncate') await truncate(path, step.value)
    else if (step.op === 'chmod') await chmod(path, 0o700 | (step.value & 0o77))
    else if (step.op === 'times') await utimes(path, 0, step.value * 1_000)
    return 'ok'
  } catch (error) {
    return error instanceof Error && 'code' in error ? String(error.code) : String(error)
  }
}

/** Everything below a folder but when it was changed, which two folders cannot have alike. */
async function lookAt(dir: string): Promise<string[]> {
  const found = await output('find', [dir, '-mindepth', '1', '-printf', '%P %y %m %l\n'])
  const sums = await output('sh', [
    '-c',
    `cd '${dir}' && find . -type f -print0 | sort -z | xargs -0r sha256sum`
  ])
  return [...found.split('\n').toSorted(), ...sums.split('\n')]
}

test('a prune waits for what reads a version on demand', async (t) => {
  const place = await Place.make(t)
  const user = await place.host('a')
  await place.write('files/a', randomBytes(300_000))
  await user.ok('add', place.path('files'), '--name', 'files', '--vm', 'folder')
  await user.ok('suspend', 'files')
  await place.write('files/a', randomBytes(300_000))
  await user.ok('suspend', 'files')
  await user.ok('copies', 'files', '0')
  await user.ok('forget', 'files', '--keep-last', '1')
  const { child } = await serve(user, 'nbd', 'files', '--socket', place.path('sock'))
  onEnd(t, () => end(child))
  assert.match(await user.fails(1, 'prune', 'files'), /reads a version of it on demand/)
  await end(child)
  assert.match(await user.ok('prune', 'files'), /1 version is not on this host any more/)
})

test('the files of a version are block devices by their paths', CLIENTS, async (t) => {
  const place = await Place.make(t)
  const user = await place.host('a')
  const path = await place.write('files/disks/a b.img', randomBytes(300_000))
  // A chunk that begins with a hole, and has data in one page.
  const sparse = await place.write('files/sparse.img', '')
  await truncate(sparse, 1_000_000)
  const handle = await open(sparse, 'r+')
  await handle.write('hello', 8_192)
  await handle.close()
  await user.ok('add', place.path('files'), '--name', 'files', '--vm', 'folder')
  await user.ok('suspend', 'files')
  const mine = await place.write('mine', 'kept')
  assert.match(await user.fails(4, 'nbd', 'files', '--socket', mine), /is no socket/)
  assert.equal(await readFile(mine, 'utf8'), 'kept')
  const socket = place.path('nbd.sock')
  const { child, first } = await serve(user, 'nbd', 'files', '--socket', socket)
  onEnd(t, () => end(child))
  const exports: unknown = first['exports']
  assert.ok(Array.isArray(exports))
  const uri = `nbd+unix:///disks/a%20b.img?socket=${socket}`
  const sparseUri = `nbd+unix:///sparse.img?socket=${socket}`
  assert.deepEqual(exports, [
    { path: 'disks/a b.img', uri },
    { path: 'sparse.img', uri: sparseUri }
  ])
  await output('nbdcopy', [sparseUri, place.path('sparse-copy')])
  assert.deepEqual(await readFile(place.path('sparse-copy')), await readFile(sparse))
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
