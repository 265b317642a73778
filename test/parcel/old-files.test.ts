import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { FileEntry } from '../../lib/format/file-table.js'
import { CHUNKING } from '../../lib/format/limits.js'
import type { Content } from '../../lib/image/contents.js'
import { CoreTable } from '../../lib/log/core-table.js'
import { BaseFiles } from '../../lib/parcel/commit/base-files.js'
import { FileStamps } from '../../lib/parcel/commit/file-stamps.js'
import { OldFiles } from '../../lib/parcel/checkout/old-files.js'

const [OURS, OTHERS] = [Buffer.alloc(32, 1), Buffer.alloc(32, 2)]
const PLACE = { core: 0, block: 3, ordinal: 1 }
const ENTRY: FileEntry & { type: 'file' } = {
  type: 'file',
  path: Buffer.from('file'),
  mode: 0o644,
  mtime: 1_000n,
  extensions: [],
  role: 'file',
  chunking: CHUNKING,
  size: 100,
  root: Buffer.alloc(32, 7)
}

/** Whether a file of a version may stay where `before` has one, of which the places number these logs. */
async function mayStay(
  content: Content,
  tables: { before: Buffer[]; now: Buffer[] },
  { hasTraces = true } = {}
): Promise<boolean | undefined> {
  const stamps = new FileStamps()
  stamps.push({ ino: 1n, ctime: 1n })
  const source = { read: () => Promise.reject(new Error('nothing is to be read')) }
  const contents = async function* (): AsyncGenerator<Content> {
    yield { entry: ENTRY, place: PLACE }
  }
  const before = {
    id: Buffer.alloc(32),
    stamps,
    cores: new CoreTable(tables.before),
    hasTraces,
    files: () => new BaseFiles(source, contents(), stamps)
  }
  const old = new OldFiles('/folder', before, new CoreTable(tables.now))
  return (await old.walk()(content))?.isWanted
}

test('a file stays only when all of it is as before, and every place means what it meant', async () => {
  const same = { before: [OURS], now: [OURS] }
  const one = { entry: ENTRY, place: PLACE }
  assert.equal(await mayStay(one, same), true)
  assert.equal(await mayStay(one, { before: [OURS], now: [OURS, OTHERS] }), true)
  // Pages below the top one number logs by their version's table, too.
  for (const [before, now, core] of [
    [[OURS], [OTHERS, OURS], 1],
    [[OURS], [OTHERS], 0],
    [[OURS, OTHERS], [OURS], 0]
  ] as const) {
    const content: Content = { entry: ENTRY, place: { ...PLACE, core } }
    assert.equal(await mayStay(content, { before: [...before], now: [...now] }), false)
  }
  assert.equal(await mayStay(one, same, { hasTraces: false }), false)
  const places = [{ ...PLACE, block: 4 }, { ...PLACE, ordinal: 2 }, null]
  for (const place of places) assert.equal(await mayStay({ entry: ENTRY, place }, same), false)
  const others: Partial<typeof ENTRY>[] = [
    { root: Buffer.alloc(32, 8) },
    { root: null },
    { size: 101 },
    { mode: 0o600 },
    { mtime: 1_001n },
    { role: 'memory' }
  ]
  for (const each of others) {
    const content: Content = { entry: { ...ENTRY, ...each }, place: PLACE }
    assert.equal(await mayStay(content, same), false, JSON.stringify(Object.keys(each)))
  }
  for (const each of [{ path: Buffer.from('other') }, { chunking: 1 as const }]) {
    const content: Content = { entry: { ...ENTRY, ...each }, place: PLACE }
    assert.equal(await mayStay(content, same), undefined)
  }
})
