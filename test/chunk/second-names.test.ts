import assert from 'node:assert/strict'
import { lstat, mkdir, readFile, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { WorkerPool } from '../../lib/chunk/worker-pool.js'
import { onEnd } from '../support/on-end.js'
import { scratch } from '../support/scratch.js'

test('a file gets a second name, and loses that alone', async (t) => {
  const dir = await scratch(t)
  const pool = new WorkerPool()
  onEnd(t, () => pool.close())
  const [file, second] = [join(dir, 'file'), join(dir, 'second')]
  const named = async (path: string, other: string) => {
    const { ino, ctimeNs } = await lstat(path, { bigint: true })
    return { path: Buffer.from(path), second: Buffer.from(other), ino, ctime: ctimeNs }
  }
  await writeFile(file, 'text')
  const known = await named(file, second)
  const [linked] = await pool.named('linkFiles', [known])
  assert.equal(linked?.ino, known.ino)
  assert.equal((await lstat(second)).nlink, 2)
  // What it was known by before it had two names is no more.
  assert.deepEqual(await pool.named('unlinkFiles', [known]), [null])
  assert.equal((await lstat(second)).nlink, 2)
  const [left] = await pool.named('unlinkFiles', [await named(file, second)])
  assert.equal(left?.ino, known.ino)
  await assert.rejects(lstat(second), { code: 'ENOENT' })
  // Nor does it lose the one that it has, by whatever path.
  await mkdir(join(dir, 'folder'))
  await symlink(dir, join(dir, 'folder', 'again'))
  for (const path of [file, join(dir, 'folder', 'again', 'file')]) {
    await pool.named('unlinkFiles', [await named(path, file)])
    assert.equal(await readFile(file, 'utf8'), 'text')
  }
})
