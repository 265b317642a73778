import assert from 'node:assert/strict'
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { accessSync, constants } from 'node:fs'
import { join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { test, type TestContext } from 'node:test'
import * as fc from 'fast-check'
import { FuseFileSystem } from '../../lib/export/fuse.js'
import type { FolderChange } from '../../lib/image/folder-change.js'
import { FolderChanges, replayChanges } from '../../lib/image/folder-changes.js'
import { FolderTree } from '../../lib/image/folder-tree.js'
import { CHUNK_SIZE } from '../../lib/format/limits.js'
import type { Volume } from '../../lib/image/volume.js'
import { openImage, storeFile } from '../image/images.js'
import { onEnd } from '../support/on-end.js'
import { missing, output } from '../support/programs.js'
import { scratch } from '../support/scratch.js'

const SIZE = 48 * CHUNK_SIZE + 5_000
const FRAMES = 100_000
const PROGRAM = fileURLToPath(new URL('./fuse-program.js', import.meta.url))
const isRoot = process.getuid?.() === 0
const MOUNTS = { skip: cannotMount() ?? missing(['unshare', 'nsenter', 'fio', 'qemu-img', 'perl']) }

function cannotMount(): string | null {
  try {
    accessSync('/dev/fuse', constants.R_OK | constants.W_OK)
    return null
  } catch {
    return '/dev/fuse cannot be opened'
  }
}

interface Served {
  dir: string
  disk: string
  server: ChildProcess
  /** Runs a program where the mount is. */
  inside: (program: string, ...args: string[]) => Promise<string>
}

/** A mounted tree in a mount namespace of its own; as a plain user, in a user namespace too. */
async function serve(t: TestContext, { dir = '', stall = -1 } = {}): Promise<Served> {
  const place = dir === '' ? await scratch(t) : dir
  const namespaces = isRoot ? ['-m'] : ['-U', '-r', '-m']
  const program = [process.execPath, PROGRAM, place, String(stall)]
  const server = spawn('unshare', [...namespaces, ...program], {
    stdio: ['pipe', 'pipe', 'inherit'],
    env: { ...process.env, UV_THREADPOOL_SIZE: '12' }
  })
  const exited = once(server, 'exit')
  onEnd(t, async () => {
    server.stdin?.end()
    await exited
  })
  assert.ok(server.stdout !== null)
  assert.match(String(await once(server.stdout, 'data')), /mounted/)
  const enter = [
    '-t',
    String(server.pid),
    ...(isRoot ? ['-m'] : ['-U', '-m', '--preserve-credentials'])
  ]
  const inside = (...args: [string, ...string[]]): Promise<string> =>
    output('nsenter', [...enter, ...args])
  return { dir: place, disk: join(place, 'mnt/disk.img'), server, inside }
}

test('programs see a tree of files, folders and links', MOUNTS, async (t) => {
  const { dir, disk, inside } = await serve(t)
  const names = await inside('find', join(dir, 'mnt'), '-printf', '%P %y %m %s %l\n')
  assert.deepEqual(names.split('\n').toSorted(), [
    '',
    ' d 755 0 ',
    `disk.img f 644 ${SIZE} `,
    'folder d 755 0 ',
    'folder/small f 644 10 ',
    'link l 644 12 folder/small'
  ])
  await inside('cmp', disk, join(dir, 'expected'))
  await inside('sh', '-c', `cmp ${dir}/mnt/link ${dir}/mnt/folder/small`)
  await assert.rejects(inside('touch', join(dir, 'mnt/new')), /not permitted/)
  await assert.rejects(inside('rm', disk), /not permitted/)
  await assert.rejects(inside('cat', join(dir, 'mnt/none')), /No such file/)
  assert.match(await inside('stat', '-f', '-c', '%T', disk), /fuse/)
})

test('many readers and mapped reads all see the same bytes', MOUNTS, async (t) => {
  const { dir, disk, inside } = await serve(t)
  const expected = join(dir, 'expected')
  const reads = Array.from({ length: 8 }, (_, n) =>
    n % 2 === 0
      ? inside('cmp', disk, expected)
      : inside('qemu-img', 'compare', '-f', 'raw', '-F', 'raw', disk, expected)
  )
  await Promise.all(reads)
})

test('holes are found, and made', MOUNTS, async (t) => {
  const { disk, inside } = await serve(t)
  const seek = 'open F,"<",$ARGV[0];print sysseek(F,$ARGV[1],3)," ",sysseek(F,$ARGV[2],4)'
  assert.equal(
    await inside('perl', '-e', seek, disk, String(CHUNK_SIZE), '0'),
    `${2 * CHUNK_SIZE} ${CHUNK_SIZE}`
  )
  await inside('fallocate', '-p', '-o', '4096', '-l', '8192', disk)
  assert.equal(await inside('perl', '-e', seek, disk, '4096', '0'), '12288 4096')
  await inside('fallocate', '-l', String(SIZE + 100_000), disk)
  assert.equal(Number(await inside('stat', '-c', '%s', disk)), SIZE + 100_000)
})

test(
  'fio finds what it wrote through maps and calls, and so does who comes later',
  MOUNTS,
  async (t) => {
    const { dir, disk, server, inside } = await serve(t)
    for (const engine of ['mmap', 'psync']) {
      const job = ['--name=work', `--filename=${disk}`, `--ioengine=${engine}`, '--rw=randwrite']
      const sizes = [`--size=${48 * CHUNK_SIZE}`, '--bsrange=4k-64k', '--randrepeat=0']
      const verify = ['--verify=crc32c', '--verify_fatal=1', '--do_verify=1', '--end_fsync=1']
      await inside('fio', ...job, ...sizes, ...verify, `--aux-path=${dir}`)
    }
    const written = await sum(inside, disk)
    server.stdin?.end()
    await once(server, 'exit')
    const again = await serve(t, { dir })
    assert.equal(await sum(again.inside, disk), written)
  }
)

test('what was written is there after a kill of the server', MOUNTS, async (t) => {
  const { dir, disk, server, inside } = await serve(t)
  const patch = 'dd if=/dev/urandom bs=1000 count=7 seek=3 conv=notrunc,fsync status=none'
  await inside('sh', '-c', `${patch} of=${disk}; truncate -s ${SIZE - 9_000} ${disk}`)
  const before = await sum(inside, disk)
  server.kill('SIGKILL')
  await once(server, 'exit')
  await assert.rejects(inside('cat', disk))
  const again = await serve(t, { dir })
  assert.equal(await sum(again.inside, disk), before)
  assert.equal(Number(await again.inside('stat', '-c', '%s', disk)), SIZE - 9_000)
})

test('who waits for a chunk can be interrupted, and gets it when it comes', MOUNTS, async (t) => {
  const { disk, server, inside } = await serve(t, { stall: 2 })
  // Ends of its SIGINT although the chunk never came.
  await assert.rejects(inside('timeout', '-s', 'INT', '0.3', 'cat', disk))
  const waiting = inside('sh', '-c', `cat ${disk} | sha256sum`)
  await setTimeout(100)
  server.kill('SIGUSR1')
  assert.match(await waiting, /^[0-9a-f]{64}/)
})

test('an unmount frees a process that waits for a page', MOUNTS, async (t) => {
  const { disk, server, inside } = await serve(t, { stall: 2 })
  const read = 'open F,"<",$ARGV[0];sysseek(F,131072,0);print sysread(F,$b,9) // "failed"'
  const waiting = inside('perl', '-e', read, disk)
  await setTimeout(200)
  server.stdin?.end()
  await once(server, 'exit')
  assert.equal(await waiting, 'failed')
})

test('whatever the kernel sends, every request has one answer and none is a crash', async (t) => {
  const dir = await scratch(t)
  const file = await storeFile(SIZE)
  const image = await openImage(file, join(dir, 'overlay'))
  onEnd(t, () => image.close())
  const space = (): { total: number; free: number } => ({ total: 1, free: 1 })
  const before = process.memoryUsage().rss
  const readOnly = { readahead: 0, isReadOnly: true, changes: null, space }
  await bombard(new FuseFileSystem(treeOf(image), readOnly))
  assert.deepEqual(await image.read(0, SIZE), file.contents)
  // The same with one that may be changed, and keeps it.
  const other = await openImage(await storeFile(SIZE), join(dir, 'other'))
  onEnd(t, () => other.close())
  const tree = treeOf(other)
  const kept = await FolderChanges.open(dir, tree)
  onEnd(t, async () => kept.close())
  const changes = {
    make: (change: FolderChange) => kept.make(change),
    discard: async () => {},
    flush: () => kept.flush()
  }
  await bombard(new FuseFileSystem(tree, { readahead: 0, isReadOnly: false, changes, space }))
  const again = treeOf(null)
  await replayChanges(dir, again)
  assert.ok(again.count > 4)
  assert.deepEqual(listOf(again), listOf(tree))
  assert.ok(process.memoryUsage().rss < before + 300 * 1_048_576)
})

function treeOf(volume: Volume | null): FolderTree {
  const common = { mode: 0o644, mtime: 0n }
  return new FolderTree([
    { ...common, type: 'file', path: Buffer.from('disk.img'), volume },
    { ...common, type: 'folder', path: Buffer.from('folder') },
    { ...common, type: 'symlink', path: Buffer.from('link'), target: Buffer.from('disk.img') }
  ])
}

function listOf(tree: FolderTree): unknown[] {
  return tree.nodes().map(({ path, node: { id, type, mode } }) => ({ path, id, type, mode }))
}

async function bombard(fileSystem: FuseFileSystem): Promise<void> {
  const u64 = fc.oneof(
    fc.bigInt(0n, 6n),
    fc.bigInt(0n, BigInt(2 * SIZE)),
    fc.bigInt(0n, 2n ** 64n - 1n)
  )
  const name = fc.constantFrom('a', 'b', 'folder', 'link', 'disk.img', '..', 'x/y', '')
  const body = fc.oneof(
    fc.array(u64, { maxLength: 11 }).map((values) => {
      const bytes = Buffer.alloc(8 * values.length)
      for (const [n, value] of values.entries()) bytes.writeBigUInt64LE(value, 8 * n)
      return bytes
    }),
    fc.tuple(fc.constantFrom(0, 8, 16), fc.nat(6), name, name).map(([gap, first, name, other]) => {
      const head = Buffer.alloc(gap)
      if (gap > 0) head[0] = first
      return Buffer.concat([head, Buffer.from(`${name}\0${other}\0`)])
    }),
    fc.uint8Array({ maxLength: 200 }).map((bytes) => Buffer.from(bytes))
  )
  const frames = fc.array(fc.tuple(fc.nat(55), u64, u64, body, fc.nat(30)), {
    minLength: 500,
    maxLength: 500
  })
  for (let sent = 0; sent < FRAMES; sent += 500) {
    const [some] = fc.sample(frames, 1)
    const answers = (some ?? []).map(async ([opcode, unique, node, body, lie]) => {
      const frame = Buffer.alloc(40 + body.byteLength)
      frame.writeUInt32LE(lie === 0 ? body.byteLength : frame.byteLength, 0)
      frame.writeUInt32LE(opcode, 4)
      frame.writeBigUInt64LE(unique, 8)
      frame.writeBigUInt64LE(node, 16)
      body.copy(frame, 40)
      const answer = await fileSystem.answer(frame)
      if (answer === null) return
      const whole = Buffer.concat(answer)
      assert.equal(whole.readUInt32LE(0), whole.byteLength)
      const error = -whole.readInt32LE(4)
      assert.ok(error >= 0 && error < 200)
      if (error > 0) assert.equal(whole.byteLength, 16)
    })
    await Promise.all(answers)
  }
  assert.equal(fileSystem.pending, 0)
}

async function sum(inside: Served['inside'], path: string): Promise<string> {
  return (await inside('sha256sum', path)).slice(0, 64)
}
