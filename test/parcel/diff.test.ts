import assert from 'node:assert/strict'
import {
  chmod,
  mkdir,
  open,
  readFile,
  rm,
  symlink,
  truncate,
  utimes,
  writeFile
} from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { CHUNK_SIZE } from '../../lib/format/limits.js'
import { differences, type Change } from '../../lib/parcel/diff.js'
import type { Known } from '../../lib/parcel/history.js'
import { TestParcel, WORK } from './parcels.js'

async function diff({ parcel }: TestParcel, from: Known, to: Known): Promise<Change[]> {
  const changes: Change[] = []
  for await (const change of differences(
    parcel.files.side(from, WORK),
    parcel.files.side(to, WORK)
  )) {
    changes.push(change)
  }
  return changes
}

/** What is different, byte for byte, by chunks; and all that only one of them has. */
function expected(before: Buffer, after: Buffer): Change['ranges'] {
  const [least, most] = [before.byteLength, after.byteLength].toSorted((a, b) => a - b)
  if (least === undefined || most === undefined) return []
  const ranges: Change['ranges'] = []
  const add = (start: number, end: number): void => {
    const last = ranges.at(-1)
    if (last !== undefined && last[0] + last[1] >= start) last[1] = end - last[0]
    else if (end > start) ranges.push([start, end - start])
  }
  const part = (bytes: Buffer, at: number): Buffer => {
    const here = bytes.subarray(at, at + CHUNK_SIZE)
    return here.equals(Buffer.alloc(here.byteLength)) ? Buffer.alloc(0) : here
  }
  for (let at = 0; at < least; at += CHUNK_SIZE) {
    if (!part(before, at).equals(part(after, at))) add(at, Math.min(at + CHUNK_SIZE, most))
  }
  const last = ranges.at(-1)
  if (least < most && (last === undefined || last[0] + last[1] < most)) add(least, most)
  return ranges
}

/** Deterministic numbers, so that a failure can be seen again. */
function numbers(seed: number): (below: number) => number {
  let state = seed
  return (below) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    return Math.floor((state / 2 ** 32) * below)
  }
}

test('ranges are those in which the files differ, whatever their sizes and holes', async (t) => {
  const made = await TestParcel.create(t)
  const file = join(made.folder, 'disk')
  for (let seed = 1; seed <= 12; seed++) {
    const next = numbers(seed)
    const sizes = [1, 40, 130, 300].map((chunks) => chunks * CHUNK_SIZE - next(CHUNK_SIZE))
    const scribble = async (count: number): Promise<void> => {
      const handle = await open(file, 'r+')
      const { size } = await handle.stat()
      for (let n = 0; n < count; n++) {
        const bytes = Buffer.alloc(1 + next(3 * CHUNK_SIZE), next(256))
        const at = next(size)
        await handle.write(bytes, 0, Math.min(bytes.byteLength, size - at), at)
      }
      await handle.close()
    }
    await writeFile(file, '')
    await truncate(file, sizes[next(4)])
    await scribble(next(6))
    const [from, before] = [await made.commit(), await readFile(file)]
    if (next(2) === 1) await truncate(file, sizes[next(4)])
    await scribble(next(3))
    const [to, after] = [await made.commit(), await readFile(file)]
    const [change, ...others] = await diff(made, from, to)
    const want = expected(before, after)
    assert.deepEqual(others, [], `seed ${seed}`)
    assert.deepEqual(change?.ranges ?? [], want, `seed ${seed}`)
    if (change !== undefined) {
      assert.deepEqual(change.size, [before.byteLength, after.byteLength], `seed ${seed}`)
    }
    const back = await diff(made, to, from)
    assert.equal(back.length, change === undefined ? 0 : 1)
    await rm(file)
  }
})

test('what came, went, and became something else; times alone are no change', async (t) => {
  const made = await TestParcel.create(t)
  const at = (name: string): string => join(made.folder, name)
  await mkdir(at('folder'))
  for (const name of ['gone', 'kind', 'mode', 'same', 'times', 'folder/in']) {
    await writeFile(at(name), name)
  }
  await symlink('same', at('link'))
  const first = await made.commit()
  await rm(at('gone'))
  await rm(at('kind'))
  await mkdir(at('kind'))
  await chmod(at('mode'), 0o700)
  await utimes(at('times'), 1, 1)
  await rm(at('link'))
  await symlink('times', at('link'))
  await writeFile(at('folder/new'), 'new')
  await writeFile(at('folder/in'), 'IN')
  const second = await made.commit()
  const found = await diff(made, first, second)
  assert.deepEqual(
    found.map(({ path, kind, fileType }) => `${kind} ${fileType} ${path}`),
    [
      'changed file folder/in',
      'added file folder/new',
      'removed file gone',
      'removed file kind',
      'added folder kind',
      'changed symlink link',
      'changed file mode'
    ]
  )
  assert.deepEqual(found[0]?.ranges, [[0, 9]])
  assert.deepEqual(found[0].size, [9, 2])
  assert.deepEqual(await diff(made, second, second), [])
})
