import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { appendFile, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { SUBPAGE_SIZE } from '../../lib/format/limits.js'
import { Overlay } from '../../lib/image/overlay.js'
import { scratch } from '../support/scratch.js'

test('who reads an overlay that another one writes to changes nothing of it', async (t) => {
  const path = join(await scratch(t), 'overlay')
  const [size, page] = [100 * SUBPAGE_SIZE, randomBytes(SUBPAGE_SIZE)]
  const writer = await Overlay.open(path, size)
  t.after(() => writer.close())
  await writer.write(0, page)
  // A record that is being appended.
  await appendFile(`${path}.map`, Buffer.from([1, 0, 0]))
  const before = await readFile(`${path}.map`)
  const reader = await Overlay.open(path, size, { isRead: true })
  t.after(() => reader.close())
  assert.deepEqual([reader.written.count, reader.written.has(0)], [1, true])
  const bytes = Buffer.alloc(SUBPAGE_SIZE)
  await reader.read(bytes, 0)
  assert.ok(bytes.equals(page))
  assert.deepEqual(await readFile(`${path}.map`), before)
})
