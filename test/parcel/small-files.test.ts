import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { mkdir, open, readdir, readFile, utimes, writeFile } from 'node:fs/promises'
import { join, relative } from 'node:path'
import { test } from 'node:test'
import { TestParcel, WORK } from './parcels.js'

const FILES = 1_500

/** Small files of 4 KiB of noise, in folders of folders. */
async function manyFiles(root: string): Promise<string[]> {
  const paths = Array.from({ length: FILES }, (_, n) =>
    join(root, `${n % 7}`, `${n % 60}`, `${n % 3 === 0 ? 'a/' : ''}${n}`)
  )
  for (const path of new Set(paths.map((path) => join(path, '..')))) {
    await mkdir(path, { recursive: true })
  }
  await Promise.all(paths.map((path) => writeFile(path, randomBytes(4_096))))
  return paths
}

/** What is in each file below a folder. */
async function read(root: string): Promise<Map<string, string>> {
  const entries = await readdir(root, { recursive: true, withFileTypes: true })
  const files = entries.filter((entry) => entry.isFile())
  const read = files.map(async ({ parentPath, name }): Promise<[string, string]> => {
    const path = join(parentPath, name)
    return [relative(root, path), await readFile(path, 'base64')]
  })
  return new Map((await Promise.all(read)).toSorted(([a], [b]) => (a < b ? -1 : 1)))
}

test('thousands of small files come back; of what was only touched next to nothing is stored', async (t) => {
  const test = await TestParcel.create(t)
  const paths = await manyFiles(test.folder)
  const first = await test.commit()
  assert.equal(first.version.totals.files, FILES)
  await test.checkOut(first, join(test.dir, 'to'))
  assert.deepEqual(await read(join(test.dir, 'to')), await read(test.folder))

  await Promise.all(paths.map((path) => utimes(path, 1_000, 2_000)))
  const touched = await test.commit()
  assert.ok(first.version.totals.stored > FILES * 4_096)
  // A line of the table for each file.
  assert.ok(touched.version.totals.stored < FILES * 200, `${touched.version.totals.stored} bytes`)
  await test.checkOut(touched, join(test.dir, 'to'))
  assert.deepEqual(await read(join(test.dir, 'to')), await read(test.folder))

  const last = paths.at(-1) ?? ''
  await writeFile(last, randomBytes(4_096))
  const changed = await test.commit()
  await test.checkOut(changed, join(test.dir, 'to'))
  assert.deepEqual(await read(join(test.dir, 'to')), await read(test.folder))
})

test('of small files that are written to all the time none is torn', async (t) => {
  const test = await TestParcel.create(t)
  const size = 40_000
  const paths = Array.from({ length: 60 }, (_, n) => join(test.folder, `${n}`))
  for (const path of paths) await writeFile(path, Buffer.alloc(size))
  const handles = await Promise.all(paths.map((path) => open(path, 'r+')))
  let isDone = false
  const writing = (async () => {
    for (let n = 1; !isDone; n++) {
      const generation = Buffer.alloc(4)
      generation.writeUInt32LE(n)
      for (const handle of handles) {
        // The beginning is always as new as the end, or newer.
        await handle.write(generation, 0, 4, 0)
        await handle.write(generation, 0, 4, size - 4)
      }
    }
  })()
  const what = { path: test.folder, facts: {}, message: '', compress: true, roles: {} }
  const { version } = await test.parcel.author.commit({ ...what, exclude: () => false }, WORK)
  isDone = true
  await writing
  await Promise.all(handles.map((handle) => handle.close()))
  const to = join(test.dir, 'to')
  await test.checkOut(version, to)
  for (const name of await readdir(to)) {
    const bytes = await readFile(join(to, name))
    assert.ok(bytes.readUInt32LE(0) >= bytes.readUInt32LE(size - 4), `${name} is torn`)
  }
})
