import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import {
  comparePaths,
  encodeFileEntry,
  printable,
  TableChecker,
  type FileEntry
} from '../../lib/format/file-table.js'
import { decodeLine } from './codecs.js'
import { outcome, refuses } from './refuses.js'

function entry(path: string | Buffer, type: FileEntry['type'] = 'file'): FileEntry {
  const common = { path: Buffer.from(path), mode: 0o644, mtime: 0n, extensions: [] }
  if (type === 'folder') return { ...common, type }
  if (type === 'symlink') return { ...common, type, target: Buffer.from('/etc') }
  return { ...common, type, role: 'file', chunking: 1, size: 0, root: null }
}

function check(...entries: FileEntry[]): void {
  const checker = new TableChecker()
  for (const each of entries) checker.check(each)
}

const folder = entry('a', 'folder')
const REFUSED: Record<string, FileEntry[]> = {
  empty: [entry('')],
  absolute: [entry('/etc/passwd')],
  "'..'": [entry('..')],
  "'..' below a folder": [folder, entry('a/..')],
  "'..' in the middle": [folder, entry('a/../b')],
  "'.'": [entry('.')],
  "'.' below a folder": [folder, entry('a/./b')],
  'empty part': [folder, entry('a//b')],
  'slash at the end': [folder, entry('a/')],
  NUL: [entry('a\0b')],
  'NUL below a folder': [folder, entry('a/b\0')],
  'through a symlink': [entry('a', 'symlink'), entry('a/b')],
  'through a file': [entry('a'), entry('a/b')],
  twice: [entry('a'), entry('a')],
  'a folder twice': [folder, folder],
  'a folder and a symlink of the same name': [folder, entry('a', 'symlink')],
  'out of order': [entry('b'), entry('a')],
  'back into a folder that was left': [folder, entry('a-'), entry('a/b')],
  'parent missing': [entry('a/b')],
  'grandparent only': [folder, entry('a/b/c')],
  'parent of a like name': [entry('ab', 'folder'), entry('abc/d')]
}

for (const [why, entries] of Object.entries(REFUSED)) {
  test(`a path is refused: ${why}`, () => refuses('INTEGRITY', () => check(...entries)))
}

test('names that only look dangerous are good, in the order of a walk', () => {
  check(
    entry('...'),
    entry('.hidden', 'folder'),
    entry('.hidden/..a'),
    folder,
    entry('a/a', 'folder'),
    entry('a/a/b'),
    entry('a/b'),
    entry('a '),
    entry('a.txt'),
    entry('a0', 'symlink'),
    entry(Buffer.from([0xff, 0xfe])),
    entry(Buffer.from([0xff, 0xff]))
  )
})

test('the order is that of a walk: by names, and a folder before what it holds', () => {
  const name = fc.uint8Array({ minLength: 1, maxLength: 3, max: 255 }).map(legal)
  const path = fc.array(name, { minLength: 1, maxLength: 4 })
  const join = (parts: string[]): Buffer => Buffer.from(parts.join('/'), 'latin1')
  fc.assert(
    fc.property(path, path, (a, b) => {
      const got = Math.sign(comparePaths(join(a), join(b)))
      assert.equal(got, Math.sign(byParts(a, b)))
      assert.equal(got + Math.sign(comparePaths(join(b), join(a))), 0)
    })
  )
})

test('any tree of folders in its order passes; with one folder left out it is refused', () => {
  const name = fc.uint8Array({ minLength: 1, maxLength: 2 }).map(legal)
  const leaf = fc.array(name, { minLength: 2, maxLength: 4 })
  fc.assert(
    fc.property(fc.array(leaf, { minLength: 1, maxLength: 8 }), fc.nat(), (leaves, n) => {
      const all = new Map<string, 'file' | 'folder'>()
      for (const parts of leaves) {
        if (!all.has(parts.join('/'))) all.set(parts.join('/'), 'file')
        for (let i = 1; i < parts.length; i++) all.set(parts.slice(0, i).join('/'), 'folder')
      }
      const table = [...all]
        .map(([text, type]) => entry(Buffer.from(text, 'latin1'), type))
        .toSorted((a, b) => comparePaths(a.path, b.path))
      check(...table)
      const folders = table.filter(({ type }) => type === 'folder')
      const without = folders[n % folders.length]
      const rest = table.filter((each) => each !== without)
      assert.deepEqual(
        outcome(() => check(...rest)),
        { code: 'INTEGRITY' }
      )
    })
  )
})

test('a time before or after what the format holds is written as the first or last one', () => {
  const ns = 1_000_000_000n
  const first = -62_135_596_800n * ns
  const last = (2n ** 40n - 62_135_596_800n) * ns + 999_999_999n
  const written = (mtime: bigint): bigint => decodeLine(encodeFileEntry({ ...folder, mtime })).mtime
  for (const mtime of [first, -1n, 0n, 1n, last]) assert.equal(written(mtime), mtime)
  assert.equal(written(first - 1n), first)
  assert.equal(written(last + 1n), last)
  assert.equal(written(2n ** 63n * ns), last)
})

test('a path is shown without anything that moves the cursor', () => {
  assert.equal(printable(Buffer.from('ok é 猫')), 'ok é 猫')
  assert.equal(printable(Buffer.from('\x1b[2J\n')), '\\u{1b}[2J\\u{a}')
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 20 }), (path) => {
      assert.doesNotMatch(printable(path), /[\p{Cc}\p{Cf}]/u)
    })
  )
})

/** Bytes as a file name: no slash, no NUL, not '.' or '..'. */
function legal(bytes: Uint8Array): string {
  const text = Buffer.from(bytes).toString('latin1').replaceAll(/[/\0]/g, 'x')
  return /^\.\.?$/.test(text) ? 'dot' : text
}

function byParts(a: string[], b: string[]): number {
  for (const [i, part] of a.entries()) {
    const other = b[i]
    if (other === undefined) return 1
    const order = Buffer.compare(Buffer.from(part, 'latin1'), Buffer.from(other, 'latin1'))
    if (order !== 0) return order
  }
  return a.length - b.length
}

test('the role 255 of earlier software is that of a plain file, and is never written', () => {
  const plain = encodeFileEntry(entry('constructor'))
  const file = entry('constructor')
  assert.ok(file.type === 'file')
  const logged = encodeFileEntry({ ...file, role: 'log' })
  const at = plain.findIndex((byte, n) => byte !== logged[n])
  const old = Buffer.from(plain)
  old[at] = 255
  assert.deepEqual(decodeLine(old), entry('constructor'))
  const unknown = Buffer.from(plain)
  unknown[at] = 7
  assert.throws(() => decodeLine(unknown), /unknown role/)
  const none: FileEntry = Object.assign({ ...file }, { role: Object })
  assert.throws(() => encodeFileEntry(none), RangeError)
})
