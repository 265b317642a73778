import assert from 'node:assert/strict'
import { execFile, spawn } from 'node:child_process'
import {
  chmod,
  lstat,
  mkdir,
  open,
  readdir,
  readFile,
  readlink,
  rm,
  stat,
  symlink,
  truncate,
  utimes,
  writeFile
} from 'node:fs/promises'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { test } from 'node:test'
import { promisify } from 'node:util'
import { onEnd } from '../support/on-end.js'
import { failure, isRoot, NOBODY, objects, Place } from './place.js'

const run = promisify(execFile)
const LINUX = process.platform === 'linux' ? false : 'Linux has names of any bytes and SEEK_HOLE'

/** Everything below a folder, in a form to compare: no times of folders' parents, no inodes. */
async function picture(root: string): Promise<string[]> {
  const format = '%y %m %s %T@ %P -> %l\\0'
  const { stdout } = await run('find', [root, '-mindepth', '1', '-printf', format], {
    encoding: 'latin1',
    maxBuffer: 1 << 26
  })
  return stdout
    .split('\0')
    .map((line) => line.replace(/^d (\d+) \d+/, 'd $1').replace(/(\.\d{5})\d+ /, '$1 '))
    .toSorted()
}

async function digest(root: string): Promise<string> {
  const script = `cd "$1" && find . -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum`
  return (await run('sh', ['-c', script, 'sh', root], { maxBuffer: 1 << 26 })).stdout
}

async function oddFolder(root: string): Promise<void> {
  const file = async (name: string, mode: number, text = name): Promise<void> => {
    await writeFile(join(root, name), text)
    await chmod(join(root, name), mode)
  }
  await mkdir(join(root, 'empty/inner'), { recursive: true })
  await file('plain', 0o644)
  await file('program', 0o755)
  await file('setuid', 0o4755)
  await file('setgid', 0o2755)
  await file('unreadable', 0o000)
  await file('nothing', 0o600, '')
  await file('new\nline', 0o644)
  await file('-rf *', 0o644)
  await file(' ', 0o644)
  await file('tab\tquote"\\', 0o644)
  await file('x'.repeat(255), 0o644)
  await file('c:\u202eexe', 0o644)
  await symlink('/etc/passwd', join(root, 'absolute'))
  await symlink('nowhere/at/all', join(root, 'dangling'))
  await symlink('../../..', join(root, 'outside'))
  await symlink('.', join(root, 'loop'))
  await symlink('y'.repeat(4_000), join(root, 'long'))
  const raw = Buffer.concat([Buffer.from(`${root}/`), Buffer.from([0xff, 0xfe, 0x80, 0x0a, 0x01])])
  await mkdir(raw)
  await writeFile(Buffer.concat([raw, Buffer.from([0x2f, 0xc3])]), 'bytes')
  let deep = root
  for (let n = 0; n < 120; n++) deep = join(deep, `d${n}`)
  await mkdir(deep, { recursive: true })
  await writeFile(join(deep, 'bottom'), 'here')
  await mkdir(join(root, 'sticky'))
  await chmod(join(root, 'sticky'), 0o1777)
  await mkdir(join(root, 'closed/inner'), { recursive: true })
  await writeFile(join(root, 'closed/inner/file'), 'kept')
  await utimes(join(root, 'plain'), 1, 1.5)
  for (const [n, name] of ['constructor', '__proto__', 'hasOwnProperty'].entries()) {
    await writeFile(join(root, name), name)
    // As text: of numbers below zero Node makes the present.
    await utimes(join(root, name), String(-1.5 - n), String(-1e9 - n))
  }
  await utimes(join(root, 'program'), 4_102_444_800, 4_102_444_800)
  await utimes(join(root, 'empty'), 1_000, 1_000)
  await chmod(join(root, 'closed/inner'), 0o555)
  await chmod(join(root, 'closed'), 0o555)
}

test(
  'every kind of name, mode, time and link comes back alike, and again over itself',
  { skip: LINUX },
  async (t) => {
    const place = await Place.make(t)
    const user = await place.host('one')
    const root = place.path('odd')
    await mkdir(root)
    await oddFolder(root)
    const [before, bytes] = [await picture(root), await digest(root)]
    await user.ok('add', root, '--name', 'odd')
    const version = await user.result('suspend', 'odd')
    assert.deepEqual(version['skipped'], [])
    for (const to of [place.path('copy'), place.path('copy')]) {
      await user.ok('resume', 'odd', '--to', to)
      assert.deepEqual(await picture(to), before)
      assert.equal(await digest(to), bytes)
    }
    const names = await readdir(place.dir)
    assert.deepEqual(names.toSorted(), ['copy', 'homes', 'odd'])
  }
)

test(
  'the same as a user who is not root',
  { skip: isRoot ? LINUX : 'needs root to become another' },
  async (t) => {
    const place = await Place.make(t)
    await chmod(place.dir, 0o777)
    const user = await place.host('one', { uid: NOBODY })
    const root = place.path('work')
    await place.write('work/closed/inner/file', 'kept')
    await place.write('work/secret', 'not for all')
    await place.write('work/locked/file', 'x')
    await run('chown', ['-R', String(NOBODY), root])
    await chmod(join(root, 'closed/inner'), 0o555)
    await chmod(join(root, 'closed'), 0o555)
    await user.ok('add', root, '--name', 'work')
    await user.ok('suspend', 'work')
    const before = await picture(root)
    await user.ok('resume', 'work', '--to', place.path('copy'))
    await user.ok('resume', 'work')
    assert.deepEqual(await picture(place.path('copy')), before)
    assert.equal((await lstat(place.path('copy/closed'))).mode & 0o777, 0o555)
    await chmod(place.path('copy/secret'), 0o000)
    await chmod(place.path('copy/locked'), 0o000)
    const ran = await user.run('suspend', 'work', '--json')
    assert.equal(ran.code, 3)
    const version = objects(ran.stdout).find(({ type }) => type === 'version')
    const skipped = JSON.stringify(version?.['skipped'])
    assert.match(skipped, /"secret".*no permission|no permission.*"secret"/)
    assert.match(skipped, /"locked".*no permission|no permission.*"locked"/)
  }
)

test("what a user has in a plain folder under a name of ours is the user's", async (t) => {
  const place = await Place.make(t)
  const user = await place.host('one')
  await place.write('plain/state/images/images.json', 'mine')
  await user.ok('add', place.path('plain'), '--name', 'plain')
  await user.ok('suspend', 'plain')
  const before = await digest(place.path('plain'))
  await user.ok('resume', 'plain', '--to', place.path('copy'))
  assert.equal(await digest(place.path('copy')), before)
})

test(
  'a folder in which something is mounted is not replaced',
  { skip: isRoot ? LINUX : 'needs root to mount' },
  async (t) => {
    const place = await Place.make(t)
    const user = await place.host('one')
    const inner = place.path('work/with blank')
    await place.write('work/file', 'kept')
    await mkdir(inner)
    await user.ok('add', place.path('work'), '--name', 'work')
    await run('mount', ['-t', 'tmpfs', 'tmpfs', inner])
    onEnd(t, () => run('umount', [inner]))
    await writeFile(join(inner, 'also'), 'kept too')
    await user.ok('suspend', 'work')
    const { code, stderr } = await user.run('resume', 'work')
    assert.equal(code, 4)
    assert.match(stderr, /mounted at .*work\/with blank.*unmount it/)
    assert.equal(await readFile(join(inner, 'also'), 'utf8'), 'kept too')
    await user.ok('resume', 'work', '--to', place.path('copy'))
    assert.equal(await readFile(place.path('copy/with blank/also'), 'utf8'), 'kept too')
  }
)

test("the folder's own mode comes back", async (t) => {
  const place = await Place.make(t)
  const user = await place.host('one')
  await place.write('open/a', 'a')
  await chmod(place.path('open'), 0o755)
  await user.ok('add', place.path('open'), '--name', 'open')
  await user.ok('suspend', 'open')
  await user.ok('resume', 'open')
  assert.equal((await stat(place.path('open'))).mode & 0o777, 0o755)
})

test('holes come back as holes', { skip: LINUX }, async (t) => {
  const place = await Place.make(t)
  const user = await place.host('one')
  const path = await place.write('sparse/disk', '')
  const handle = await open(path, 'r+')
  for (const [at, text] of [
    [0, 'a'],
    [70_000, 'b'],
    [1 << 24, 'c'],
    [0x40000000, 'd']
  ] as const) {
    await handle.write(text, at)
  }
  await handle.truncate(0x50000000)
  await handle.close()
  await truncate(await place.write('sparse/hole', ''), 1 << 30)
  await place.write('sparse/zeros', Buffer.alloc(1 << 20))
  await user.ok('add', place.path('sparse'), '--name', 'sparse')
  await user.ok('suspend', 'sparse')
  await user.ok('resume', 'sparse', '--to', place.path('copy'))
  for (const name of ['disk', 'hole', 'zeros']) {
    const [a, b] = [place.path('sparse', name), place.path('copy', name)]
    assert.equal(await holes(b), await holes(a), name)
    assert.equal((await stat(b)).size, (await stat(a)).size)
    assert.equal((await stat(b)).blocks, (await stat(a)).blocks, name)
  }
  await run('cmp', [path, place.path('copy/disk')])
})

/** Where data begins and ends, as the file system tells it. */
async function holes(path: string): Promise<string> {
  const script =
    'open F,"<",$ARGV[0]; $p=0; while(1){$d=sysseek(F,$p,3); last unless $d; $d+=0; ' +
    '$p=sysseek(F,$d,4)+0; print "$d-$p "; }'
  return (await run('perl', ['-e', script, path])).stdout
}

test('what is no file is left out, named, and exit 3; the version is made', async (t) => {
  const place = await Place.make(t)
  const user = await place.host('one')
  const root = place.path('mixed')
  await place.write('mixed/file', 'file')
  await run('mkfifo', [join(root, 'fifo'), join(root, 'two\nlines')])
  const server = createServer().listen(join(root, 'socket'))
  onEnd(t, () => server.close())
  const things = ['fifo', 'socket', 'two\\u{a}lines']
  if (isRoot) {
    await run('mknod', [join(root, 'device'), 'c', '1', '3'])
    things.push('device')
  }
  await user.ok('add', root, '--name', 'mixed')
  const ran = await user.run('suspend', 'mixed')
  assert.match(failure(ran, 3, 'suspend'), new RegExp(`${things.length} things`))
  for (const thing of things)
    assert.ok(ran.stderr.includes(`left out: ${thing}: not a file`), thing)
  const [head] = objects(await user.ok('log', 'mixed', '--json'))
  assert.equal(head?.['files'], 1)
  assert.equal(head['leftOut'], things.length)
  assert.match(await user.ok('status', 'mixed'), new RegExp(`${things.length} things left out`))
  // They are in no version: to lose them needs a word.
  assert.match(
    await user.fails(4, 'resume', 'mixed'),
    /is in no version \(not a file.*\): move it out .* or --force/
  )
  await user.ok('resume', 'mixed', '--force')
  assert.deepEqual(await readdir(root), ['file'])
  // Later versions are whole; one with the contents of this one is not.
  assert.equal((await user.result('suspend', 'mixed'))['leftOut'], 0)
  await user.ok('rollback', 'mixed', String(head['id']))
  const [back] = objects(await user.ok('log', 'mixed', '--json'))
  assert.equal(back?.['leftOut'], things.length)
})

test('5,000 small files', async (t) => {
  const place = await Place.make(t)
  const user = await place.host('one')
  for (let n = 0; n < 50; n++) await mkdir(place.path('many', `d${n}`), { recursive: true })
  await Promise.all(
    Array.from({ length: 5_000 }, (_, n) =>
      writeFile(place.path('many', `d${n % 50}`, `${n}`), `${n}`)
    )
  )
  await user.ok('add', place.path('many'), '--name', 'many')
  assert.equal((await user.result('suspend', 'many'))['files'], 5_000)
  await user.ok('resume', 'many', '--to', place.path('copy'))
  assert.equal(await digest(place.path('copy')), await digest(place.path('many')))
})

test('a file that never stands still is left out; one that vanished is not missed', async (t) => {
  const place = await Place.make(t)
  const user = await place.host('one')
  await place.write('live/still', 'still')
  // Long enough to read that a writer always comes in between.
  const moving = await place.write('live/moving', Buffer.alloc(256 << 20, 1))
  const loops = ['while :; do echo x >> "$1"; done', 'while :; do : > "$1"; rm "$1"; done']
  const writers = [moving, place.path('live/flicker')].map((path, n) =>
    spawn('sh', ['-c', loops[n] ?? '', 'sh', path])
  )
  const stop = (): void => writers.forEach((writer) => void writer.kill('SIGKILL'))
  onEnd(t, stop)
  await user.ok('add', place.path('live'), '--name', 'live')
  const ran = await user.run('suspend', 'live', '--json')
  stop()
  assert.equal(ran.code, 3, ran.stdout)
  const error = objects(ran.stdout).at(-1)
  assert.match(String(error?.['message']), /lacks/)
  await rm(place.path('live/flicker'), { force: true })
  await user.ok('resume', 'live', '--to', place.path('copy'))
  assert.equal(await readFile(place.path('copy/still'), 'utf8'), 'still')
  await assert.rejects(readlink(place.path('copy/moving')), { code: 'ENOENT' })
})
