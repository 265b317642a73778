import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { mkdir, open, rm, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test, type TestContext } from 'node:test'
import { chunkId } from '../../lib/chunk/id.js'
import { WorkerPool } from '../../lib/chunk/worker-pool.js'
import { CHUNK_SIZE } from '../../lib/format/limits.js'
import { ChunkIndex } from '../../lib/log/chunk-index.js'
import { Lookaside } from '../../lib/parcel/fetch/lookaside.js'
import { Outside } from '../../lib/parcel/fetch/outside.js'
import { onEnd } from '../support/on-end.js'
import { output } from '../support/programs.js'
import { scratch } from '../support/scratch.js'

const KEY = Buffer.alloc(32, 7)
const WORK = { report() {}, note() {}, signal: new AbortController().signal }

interface Setting {
  dir: string
  index: ChunkIndex
  /** As after a start of the host. */
  outside: () => Promise<Outside>
}

async function setting(t: TestContext): Promise<Setting> {
  const dir = await scratch(t)
  const home = join(dir, 'home')
  await mkdir(home)
  await mkdir(join(dir, 'media/sub'), { recursive: true })
  const index = await ChunkIndex.open(join(home, 'index'), KEY)
  const pool = new WorkerPool()
  onEnd(t, async () => {
    await pool.close()
    await index.close()
  })
  return { dir, index, outside: () => Outside.open(home, KEY, index, pool) }
}

test('chunks of named files and folders are found by their ids, after a restart too', async (t) => {
  const { dir, outside } = await setting(t)
  const image = randomBytes(20 * CHUNK_SIZE + 100)
  const small = randomBytes(1_000)
  await writeFile(join(dir, 'media/disk.img'), image)
  await writeFile(join(dir, 'media/sub/small'), small)
  await symlink('disk.img', join(dir, 'media/link'))
  const first = await outside()
  assert.ok(first.isEmpty)
  await first.look([join(dir, 'media')], WORK)
  for (const each of [first, await outside()]) {
    const wanted = [
      image.subarray(17 * CHUNK_SIZE, 18 * CHUNK_SIZE),
      image.subarray(20 * CHUNK_SIZE),
      small
    ]
    assert.deepEqual(await each.find(wanted.map((bytes) => chunkId(bytes))), wanted)
    assert.deepEqual(await each.find([chunkId(randomBytes(9))]), [null])
  }
  await assert.rejects(first.look([join(dir, 'none')], WORK), { code: 'USAGE' })
})

test('a file that changed is indexed again; one that is gone, or lies, does no harm', async (t) => {
  const { dir, index, outside } = await setting(t)
  const path = join(dir, 'media/disk.img')
  const [before, after] = [randomBytes(CHUNK_SIZE), randomBytes(CHUNK_SIZE)]
  await writeFile(path, before)
  const place = await outside()
  await place.look([path], WORK)
  const lookaside = new Lookaside(index, place)
  assert.deepEqual(await lookaside.findTrue(chunkId(before)), before)
  await writeFile(path, after)
  // What it once was is still in the index; what is read there now is not that.
  assert.equal(await lookaside.findTrue(chunkId(before)), null)
  await place.look([], WORK)
  assert.deepEqual(await lookaside.findTrue(chunkId(after)), after)
  await rm(path)
  assert.equal(await lookaside.findTrue(chunkId(after)), null)
  await place.look([], WORK)
})

test('a pipe in the place of a file is not waited for, and holes are not read', async (t) => {
  const { dir, index, outside } = await setting(t)
  const path = join(dir, 'media/disk.img')
  const [before, far] = [randomBytes(CHUNK_SIZE), randomBytes(CHUNK_SIZE)]
  await writeFile(path, before)
  const sparse = await open(join(dir, 'media/sparse.img'), 'w')
  await sparse.truncate(2 ** 40)
  await sparse.write(far, 0, CHUNK_SIZE, 2 ** 39)
  await sparse.close()
  const place = await outside()
  await place.look([join(dir, 'media')], WORK)
  const lookaside = new Lookaside(index, place)
  assert.deepEqual(await lookaside.findTrue(chunkId(before)), before)
  assert.deepEqual(await lookaside.findTrue(chunkId(far)), far)
  await rm(path)
  await output('mkfifo', [path])
  assert.equal(await lookaside.findTrue(chunkId(before)), null)
  await place.look([], WORK)
})
