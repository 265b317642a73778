import assert from 'node:assert/strict'
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { mkdir, open, readdir, readFile, rename, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test, type TestContext } from 'node:test'
import { setTimeout } from 'node:timers/promises'
import type { Known } from '../../lib/parcel/history.js'
import { onEnd } from '../support/on-end.js'
import { missing } from '../support/programs.js'
import { NO_MOUNT, smallDisk } from '../support/small-disk.js'
import { TestParcel, WORK } from './parcels.js'

/** Longer than the clock of any file system that a test runs on ticks. */
const TICK = 150

const MAKE_SOCKET =
  'socket(S, PF_UNIX, SOCK_STREAM, 0) && bind(S, pack_sockaddr_un($ARGV[0])) or die $!'

/** A parcel with folders `a`, `m` and `z`, each with a file, and its first version. */
async function threeFolders(t: TestContext): Promise<TestParcel> {
  const test = await TestParcel.create(t)
  for (const name of ['a', 'm', 'z']) {
    await mkdir(join(test.folder, name))
    await writeFile(join(test.folder, name, 'own'), name)
  }
  await mkdir(join(test.folder, 'z/project/deep'), { recursive: true })
  await writeFile(join(test.folder, 'z/project/deep/file'), 'what matters')
  await setTimeout(TICK)
  await test.commit()
  return test
}

/** A commit; `passing` is called each time that the walk comes to something. */
async function commit(test: TestParcel, passing: (path: string) => void) {
  const exclude = (path: string): boolean => {
    passing(path)
    return false
  }
  const what = { path: test.folder, exclude, facts: {}, message: '', compress: true, roles: {} }
  const { version, skipped } = await test.parcel.author.commit(what, WORK)
  const to = join(test.dir, 'to')
  await test.checkOut(version, to)
  const paths = await readdir(to, { recursive: true })
  await test.checkOut(version, test.folder)
  return { skipped, paths: new Set(paths) }
}

test('what is moved behind the back of a walk is in the version', async (t) => {
  const test = await threeFolders(t)
  let isMoved = false
  const { skipped, paths } = await commit(test, (path) => {
    if (path !== 'm' || isMoved) return
    isMoved = true
    renameSync(join(test.folder, 'z/project'), join(test.folder, 'a/project'))
  })
  assert.deepEqual(skipped, [])
  assert.ok(paths.has('a/project/deep/file'), [...paths].join())
  assert.ok(!paths.has('z/project'))
})

test('what never stands still is named, if it is not in the version', async (t) => {
  const test = await threeFolders(t)
  let n = 0
  const { skipped } = await commit(test, (path) => {
    if (path !== 'm') return
    // The walk finds it in neither folder: it is always where it has been already.
    const [from, to] = n++ % 2 === 0 ? ['z', 'a'] : ['a', 'b']
    if (to === 'b') {
      renameSync(join(test.folder, 'a/project'), join(test.folder, 'A'))
      return
    }
    renameSync(join(test.folder, n === 1 ? `${from}/project` : 'A'), join(test.folder, 'a/project'))
  })
  assert.deepEqual(
    skipped.map(({ path }) => path),
    ['a/project']
  )
})

test('what is removed just before it is read is not missed, unless it is there again', async (t) => {
  const test = await threeFolders(t)
  const [small, large] = [join(test.folder, 'z/own'), join(test.folder, 'm/large')]
  // A large one is read before the walk goes on.
  await writeFile(large, Buffer.alloc(100_000, 1))
  const { skipped, paths } = await commit(test, (path) => {
    if (path === 'z/own') rmSync(small)
    if (path === 'm/large') rmSync(large)
  })
  assert.deepEqual(skipped, [])
  assert.ok(!paths.has('z/own') && !paths.has('m/large'), [...paths].join())

  await writeFile(large, Buffer.alloc(100_000, 1))
  const again = await commit(test, (path) => {
    if (path === 'm/large') rmSync(large)
    else if (path === 'm/own') writeFileSync(large, 'back')
  })
  assert.deepEqual(again.skipped, [
    { path: 'm/large', why: 'it was replaced while the folder was read' }
  ])
})

test('what becomes something else just before it is read is named, and the rest is stored', async (t) => {
  const test = await threeFolders(t)
  const [link, large, small] = ['a/link', 'm/large', 'm/small'].map((path) =>
    join(test.folder, path)
  )
  assert.ok(link !== undefined && large !== undefined && small !== undefined)
  await symlink('nowhere', link)
  await writeFile(large, Buffer.alloc(100_000, 1))
  await writeFile(small, 'small')
  // Made at its place: what is moved there has the folder read again.
  const replace = (path: string): void => {
    rmSync(path)
    execFileSync('perl', ['-MSocket', '-e', MAKE_SOCKET, path])
  }
  const { skipped, paths } = await commit(test, (path) => {
    if (path === 'a/link') {
      rmSync(link)
      writeFileSync(link, 'a file')
    } else if (path === 'm/large') replace(large)
    else if (path === 'm/small') replace(small)
  })
  const why = 'it was replaced by something else'
  assert.deepEqual(
    skipped.toSorted((a, b) => (a.path < b.path ? -1 : 1)),
    ['a/link', 'm/large', 'm/small'].map((path) => ({ path, why }))
  )
  assert.ok(paths.has('z/own') && paths.has('a/own'))
})

test('a folder that is replaced while it is read makes no version', async (t) => {
  const test = await threeFolders(t)
  const before = test.parcel.headIds()
  await assert.rejects(
    commit(test, (path) => {
      if (path !== 'm') return
      renameSync(test.folder, `${test.folder}.away`)
      mkdirSync(test.folder)
      writeFileSync(join(test.folder, 'other'), '')
    }),
    { code: 'CONFLICT', message: /moved or replaced/ }
  )
  await rename(test.folder, `${test.folder}.other`)
  await rename(`${test.folder}.away`, test.folder)
  assert.deepEqual(test.parcel.headIds(), before)
  assert.deepEqual((await commit(test, () => {})).skipped, [])
})

test('files that are made, written to and removed meanwhile are no reason to read all again', async (t) => {
  const test = await threeFolders(t)
  let walks = 0
  const { skipped } = await commit(test, (path) => {
    if (path !== 'm') return
    walks++
    writeFileSync(join(test.folder, 'a/made'), '')
    writeFileSync(join(test.folder, 'm/own'), 'more')
  })
  assert.deepEqual(skipped, [])
  assert.equal(walks, 1)
})

const ROOT = { skip: NO_MOUNT }

test('of a file that is written to without a pause there is no torn copy', ROOT, async (t) => {
  const test = await TestParcel.create(t)
  // It stamps by the tick of a slow clock, as ext4 does before Linux 6.13.
  execFileSync('mount', ['-t', 'ramfs', '-o', 'mode=755', 'ramfs', test.folder])
  onEnd(t, () => execFileSync('umount', ['-l', test.folder]))
  const file = join(test.folder, 'busy')
  const bytes = Buffer.alloc(200_000, 0)
  await writeFile(file, bytes)
  const handle = await open(file, 'r+')
  let isDone = false
  let writes = 0
  const writing = (async () => {
    for (let n = 1; !isDone; n++) {
      // The beginning is always as new as the end, or newer.
      const generation = Buffer.alloc(4)
      generation.writeUInt32LE(n)
      await handle.write(generation, 0, 4, 0)
      await handle.write(generation, 0, 4, bytes.byteLength - 4)
      writes++
    }
  })()
  const what = { path: test.folder, facts: {}, message: '', compress: true, roles: {} }
  const exclude = (): boolean => false
  const { version, skipped } = await test.parcel.author.commit({ ...what, exclude }, WORK)
  isDone = true
  await writing
  await handle.close()
  assert.ok(writes > 10)
  assert.deepEqual(
    skipped.map(({ path }) => path),
    ['busy']
  )
  assert.equal(version.version.totals.files, 0)
})

/** Numbers of the system calls mmap and read. */
const CALLS: Partial<Record<NodeJS.Architecture, [number, number]>> = {
  x64: [9, 0],
  arm64: [222, 63]
}
/** Maps a file and reads each line of its input into the beginning of it: to the system that is a mapped write. */
const MAPPER = `
my ($path, $mmap, $read) = @ARGV;
open my $file, '+<', $path or die $!;
my $at = syscall($mmap + 0, 0, 4096, 3, 1, fileno($file), 0);
die $! if $at == -1;
$| = 1;
while (my $line = <STDIN>) {
  pipe my $out, my $in or die $!;
  syswrite $in, $line;
  syscall($read + 0, fileno($out), $at, length $line) == length $line or die $!;
  print "written\\n";
}
`
const MAPPED = { skip: NO_MOUNT || missing(['perl']) || (CALLS[process.arch] ? false : 'no calls') }

test(
  'on tmpfs, where a mapped write leaves no trace, it is in the next version',
  MAPPED,
  async (t) => {
    const test = await TestParcel.create(t)
    const path = join(await smallDisk(t, 16), 'folder')
    await mkdir(path)
    const file = join(path, 'mapped')
    await writeFile(file, Buffer.alloc(2_097_152, 1))
    const calls = (CALLS[process.arch] ?? []).map(String)
    const mapper = spawn('perl', ['-e', MAPPER, file, ...calls], {
      stdio: ['pipe', 'pipe', 'inherit']
    })
    const ended = once(mapper, 'exit')
    const versions: [string, Known][] = []
    try {
      for (const text of ['first', 'second', 'third']) {
        mapper.stdin.write(`${text}\n`)
        await once(mapper.stdout, 'data')
        await setTimeout(TICK)
        versions.push([text, await test.commit({}, path)])
      }
    } finally {
      mapper.stdin.end()
      await ended
    }
    for (const [text, known] of versions) {
      await test.checkOut(known, join(test.dir, 'to'))
      const stored = await readFile(join(test.dir, 'to', 'mapped'))
      assert.equal(stored.toString('latin1', 0, text.length), text)
    }
  }
)
