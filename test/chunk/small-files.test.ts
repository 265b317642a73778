import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { lstat, mkdir, open, readdir, readFile, stat, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test, type TestContext } from 'node:test'
import * as fc from 'fast-check'
import { extents } from '../../lib/chunk/extents.js'
import type { FileStats } from '../../lib/chunk/file-stats.js'
import { chunkId } from '../../lib/chunk/id.js'
import { WorkerPool } from '../../lib/chunk/worker-pool.js'
import { CHUNK_SIZE, SUBPAGE_SIZE } from '../../lib/format/limits.js'
import { onEnd } from '../support/on-end.js'
import { scratch } from '../support/scratch.js'
import { collect } from './collect.js'
import { runs, writeSparse } from './sparse.js'

const HOW = ['threads', 'no thread'] as const
const { signal } = new AbortController()

/** A pool that has begun, or one without a thread. */
async function aPool(t: TestContext, how: (typeof HOW)[number] = 'threads') {
  const pool = new WorkerPool()
  const dir = await scratch(t)
  onEnd(t, () => pool.close())
  if (how === 'threads') {
    const handle = await open(process.execPath)
    const segment = await pool.read(handle.fd, 0, 1)
    segment.release()
    await handle.close()
  }
  return { pool, dir }
}

for (const how of HOW) {
  test(`small files are read by the batch, each as it is: ${how}`, async (t) => {
    const { pool, dir } = await aPool(t, how)
    const sizes = [1, 17, 4_096, CHUNK_SIZE - 1, CHUNK_SIZE, 900]
    const files = await Promise.all(
      sizes.map(async (size, n) => {
        const absolute = Buffer.from(join(dir, `${n} ü\n`))
        const bytes = n === 5 ? Buffer.alloc(size) : randomBytes(size)
        await writeFile(absolute, bytes)
        return { absolute, size, bytes }
      })
    )
    const before = Date.now()
    const read = await pool.readFiles(files)
    for (const [n, { absolute, bytes, size }] of files.entries()) {
      const file = read.files[n]
      assert.ok(file)
      assert.ok(file.bytes.equals(bytes))
      assert.deepEqual(file.id, n === 5 ? null : chunkId(bytes))
      const stats = await stat(absolute, { bigint: true })
      assert.equal(file.stats.size, BigInt(size))
      for (const field of ['dev', 'ino', 'mode', 'blocks', 'mtimeNs', 'ctimeNs'] as const) {
        assert.equal(file.stats[field], stats[field])
      }
      assert.ok(file.stats.isFile() && !file.stats.isDirectory() && !file.stats.isSymbolicLink())
      assert.ok(file.openedAt >= BigInt(before) * 1_000_000n)
    }
    read.release()
  })
}

for (const how of HOW) {
  test(`what is not such a file is not read by the batch, and its neighbours are: ${how}`, async (t) => {
    const { pool, dir } = await aPool(t, how)
    const path = (name: string): string => join(dir, name)
    await writeFile(path('good'), 'good')
    await writeFile(path('longer'), 'longer')
    await writeFile(path('shorter'), 'sho')
    await mkdir(path('folder'))
    await symlink('good', path('link'))
    const hole = await open(path('hole'), 'w')
    await hole.truncate(4)
    await hole.close()
    const names = ['longer', 'good', 'shorter', 'folder', 'missing', 'link', 'good']
    const wanted = names.map((name) => ({ absolute: Buffer.from(path(name)), size: 4 }))
    wanted.push({ absolute: Buffer.from(path('hole')), size: 4 })
    const { files, release } = await pool.readFiles(wanted)
    assert.deepEqual(
      files.map((file) => file?.bytes.toString() ?? null),
      [null, 'good', null, null, null, null, 'good', null]
    )
    release()
  })
}

for (const how of HOW) {
  test(`holes of small files are found by what is in them and the blocks that they take: ${how}`, async (t) => {
    const { pool, dir } = await aPool(t, how)
    const plain = fc.constantFrom('data', 'hole')
    const page = fc.oneof(plain, fc.constantFrom('zeros'))
    let n = 0
    let known = 0
    const some = { minLength: 1, maxLength: 16 }
    const made = fc.tuple(fc.oneof(fc.array(plain, some), fc.array(page, some)), fc.nat(4_095))
    await fc.assert(
      fc.asyncProperty(made, async ([pages, missing]) => {
        const absolute = Buffer.from(join(dir, `${n++}`))
        const size = pages.length * SUBPAGE_SIZE - missing
        const handle = await open(absolute, 'w+')
        await handle.truncate(size)
        for (const [at, kind] of pages.entries()) {
          const bytes = Buffer.alloc(SUBPAGE_SIZE, kind === 'data' ? 1 : 0)
          const length = Math.min(SUBPAGE_SIZE, size - at * SUBPAGE_SIZE)
          if (kind !== 'hole') await handle.write(bytes, 0, length, at * SUBPAGE_SIZE)
        }
        const isData = await collect(extents(handle.fd))
        await handle.close()
        const { files, release } = await pool.readFiles([{ absolute, size }])
        release()
        const holes = files[0]?.holes
        if (holes === undefined) return
        known++
        const data = pages.map((_, at) => (holes & (1 << at)) === 0)
        assert.deepEqual(runs(data, size), isData)
      }),
      { numRuns: 60 }
    )
    assert.ok(known > 5, `of ${n} files only ${known} are known`)
  })
}

for (const how of HOW) {
  test(`folders are listed in the order of bytes, with what is in them: ${how}`, async (t) => {
    const { pool, dir } = await aPool(t, how)
    await checkListing(pool, dir)
  })

  test(`what few regular files take on disk is added up: ${how}`, async (t) => {
    const { pool, dir } = await aPool(t, how)
    await mkdir(join(dir, 'a', 'b'), { recursive: true })
    await writeFile(join(dir, 'a', 'b', 'file'), 'x'.repeat(100))
    await writeSparse(join(dir, 'a', 'holes'), [true, false, false, true])
    await symlink(join(dir, 'a'), join(dir, 'link'))
    const { blocks } = await stat(join(dir, 'a', 'holes'))
    assert.equal(await pool.measure(Buffer.from(dir), signal), 100 + 512 * blocks)
    assert.equal(await pool.measure(Buffer.from(join(dir, 'missing')), signal), 0)
  })
}

test('a few things are looked at without a thread, many in some', async (t) => {
  const { pool, dir } = await aPool(t, 'no thread')
  const folder = Buffer.from(dir)
  await writeFile(join(dir, 'one'), 'one')
  const before = await threadsNow()
  await pool.measure(folder, signal)
  await pool.list([folder])
  const { files } = await pool.readFiles([{ absolute: Buffer.from(join(dir, 'one')), size: 3 }])
  assert.deepEqual(files[0]?.bytes, Buffer.from('one'))
  assert.equal(await threadsNow(), before)
  for (let n = 0; n < 300; n++) await writeFile(join(dir, `${n}`), '')
  const [listing] = await pool.list([folder])
  assert.ok(listing !== undefined && !(listing instanceof Error))
  assert.equal(listing.names.length, 301)
  assert.ok((await threadsNow()) > before)
})

async function threadsNow(): Promise<number> {
  return (await readdir('/proc/self/task')).length
}

async function checkListing(pool: WorkerPool, dir: string): Promise<void> {
  const names = ['b', 'a', 'a.x', 'ä', 'B', '-', 'a\n']
  for (const name of names) await writeFile(join(dir, name), name)
  await mkdir(join(dir, 'a-folder'))
  await symlink('nowhere', join(dir, 'link'))
  await mkdir(join(dir, 'empty'))
  const missing = Buffer.from(join(dir, 'missing'))
  const folders = [Buffer.from(dir), missing, Buffer.from(join(dir, 'empty'))]
  const [listing, none, empty] = await pool.list(folders)
  assert.ok(listing !== undefined && !(listing instanceof Error))
  const all = [...names, 'a-folder', 'link', 'empty'].map((name) => Buffer.from(name))
  assert.deepEqual(
    listing.names.map((name) => Buffer.from(name)),
    all.toSorted((a, b) => Buffer.compare(a, b))
  )
  for (const [n, name] of listing.names.entries()) {
    const found: FileStats | Error | undefined = listing.stats[n]
    if (found === undefined || found instanceof Error) throw new Error(`${String(name)} is missing`)
    const stats = await lstat(Buffer.concat([Buffer.from(`${dir}/`), name]), { bigint: true })
    assert.equal(found.ino, stats.ino)
    assert.equal(found.isDirectory(), stats.isDirectory())
    assert.equal(found.isSymbolicLink(), stats.isSymbolicLink())
  }
  assert.ok(none instanceof Error && 'code' in none && none.code === 'ENOENT')
  assert.deepEqual(empty, { names: [], stats: [] })
}

test('what regular files take on disk is added up, however many there are', async (t) => {
  const { pool, dir } = await aPool(t)
  let expected = 0
  for (let folder = 0; folder < 45; folder++) {
    const path = join(dir, `${folder % 5}`, `${folder}`)
    await mkdir(path, { recursive: true })
    await Promise.all(
      Array.from({ length: 100 }, async (_, n) => writeFile(join(path, `${n}`), 'x'.repeat(n)))
    )
    for (let n = 0; n < 100; n++) {
      const { blocks } = await stat(join(path, `${n}`))
      expected += Math.min(n, 512 * blocks)
    }
  }
  await writeSparse(join(dir, 'holes'), [true, false, false, true])
  const { blocks, size } = await stat(join(dir, 'holes'))
  expected += Math.min(size, 512 * blocks)
  await symlink(join(dir, '0'), join(dir, 'link'))
  assert.equal(await pool.measure(Buffer.from(dir), signal), expected)
  assert.equal(await pool.measure(Buffer.from(join(dir, 'missing')), signal), 0)
})

test('small files are made with their modes, times and holes, and over nothing', async (t) => {
  const { pool, dir } = await aPool(t)
  const path = (name: string): Buffer => Buffer.from(join(dir, name))
  const bytes = randomBytes(CHUNK_SIZE)
  const plain = { holes: 0, mode: 0o640, mtime: '1000000000.5' }
  const files = [
    { path: path('ü'), chunk: bytes, file: { ...plain, size: CHUNK_SIZE, length: CHUNK_SIZE } },
    { path: path('empty'), chunk: null, file: { ...plain, mode: 0o4711, size: 0, length: 0 } },
    { path: path('hole'), chunk: null, file: { ...plain, size: 5_000, length: 0 } },
    {
      path: path('holes'),
      chunk: Buffer.concat([Buffer.alloc(4_096), bytes.subarray(0, 4_096), Buffer.alloc(100)]),
      file: { ...plain, mtime: '-5.5', size: 8_292, length: 8_292, holes: 0b101 }
    },
    { path: path('one'), chunk: bytes.subarray(0, 1), file: { ...plain, size: 1, length: 1 } }
  ]
  const made = await pool.writeFiles(files)
  for (const [n, { path, chunk, file }] of files.entries()) {
    const stats = await stat(path, { bigint: true })
    assert.equal(stats.mode & 0o7777n, BigInt(file.mode))
    assert.equal(stats.mtimeNs, BigInt(Number(file.mtime) * 1e9))
    assert.equal(made[n]?.ino, stats.ino)
    assert.equal(made[n]?.ctimeNs, stats.ctimeNs)
    assert.ok((await readFile(path)).equals(chunk ?? Buffer.alloc(file.size)))
    const pages = [0, 1, 2].filter((page) => page * SUBPAGE_SIZE < file.size)
    const isData = pages.map((page) => chunk !== null && (file.holes & (1 << page)) === 0)
    const handle = await open(path)
    const found = await collect(extents(handle.fd))
    await handle.close()
    if (file.size < CHUNK_SIZE) assert.deepEqual(found, runs(isData, file.size))
  }
  const other = { ...plain, size: 1, length: 1 }
  const again = pool.writeFiles([{ path: path('one'), chunk: Buffer.from('x'), file: other }])
  await assert.rejects(again, { code: 'EEXIST' })
  assert.ok((await readFile(path('one'))).equals(bytes.subarray(0, 1)))
})
