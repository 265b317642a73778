import type { Entry } from '../format/entry.js'
import { comparePaths, printable, type FileEntry } from '../format/file-table.js'
import { chunkCount } from '../format/limits.js'
import type { Content } from '../image/contents.js'
import type { ItemSource } from '../image/items.js'
import { heightOf, spanOf } from '../image/shape.js'
import { readInner, readLeaf, type Subtree } from '../image/tree-reader.js'
import { sideBySide } from '../side-by-side.js'
import { addChunks, type Ranges } from './ranges.js'

/** What is different in one path of two versions. */
export interface Change {
  path: string
  kind: 'added' | 'removed' | 'changed'
  /** What it is in the newer version; of one that was removed, what it was. */
  fileType: FileEntry['type']
  /** Bytes, of a file; before and after. */
  size: [before: number, after: number]
  /** Whether its mode, or where a link leads, is another. */
  isChangedOtherwise: boolean
  /** What of a file that both have is different: [offset, length] in bytes, by chunks of 64 KiB. */
  ranges: Ranges
}

/** One side of a comparison. */
export interface Side {
  contents: AsyncIterable<Content>
  source: ItemSource
}

/**
 * What a newer version changed, in the order of paths. Of a file only those pages of its trees are
 * read that are not the same in both; times alone are no change. Throws INTEGRITY, UNREACHABLE.
 */
export async function* differences(before: Side, after: Side): AsyncGenerator<Change> {
  const byPath = (old: Content, now: Content): number =>
    comparePaths(old.entry.path, now.entry.path)
  for await (const [old, now] of sideBySide(before.contents, after.contents, byPath)) {
    if (old !== null && now?.entry.type === old.entry.type) {
      const change = await compare(old, before.source, now, after.source)
      if (change !== null) yield change
    } else {
      if (old !== null) yield whole('removed', old.entry)
      if (now !== null) yield whole('added', now.entry)
    }
  }
}

function whole(kind: 'added' | 'removed', entry: FileEntry): Change {
  const size = entry.type === 'file' ? entry.size : 0
  return {
    path: printable(entry.path),
    kind,
    fileType: entry.type,
    size: kind === 'added' ? [0, size] : [size, 0],
    isChangedOtherwise: false,
    ranges: []
  }
}

async function compare(
  old: Content,
  oldSource: ItemSource,
  now: Content,
  newSource: ItemSource
): Promise<Change | null> {
  const [a, b] = [old.entry, now.entry]
  let isChangedOtherwise = a.mode !== b.mode
  const ranges: Ranges = []
  if (a.type === 'symlink' && b.type === 'symlink')
    isChangedOtherwise ||= !a.target.equals(b.target)
  if (a.type === 'file' && b.type === 'file') {
    const trees = [
      { size: a.size, root: a.root, place: old.place, source: oldSource },
      { size: b.size, root: b.root, place: now.place, source: newSource }
    ] as const
    const [least, most] = [Math.min(a.size, b.size), Math.max(a.size, b.size)]
    // Chunks that are named in two ways cannot be compared by their names.
    const isComparable = a.chunking === b.chunking
    if (!isComparable && least > 0) ranges.push([0, least])
    if (isComparable) {
      for await (const chunk of changedChunks(...trees, chunkCount(least))) {
        addChunks(ranges, chunk, 1, most)
      }
    }
    addRest(ranges, least, most)
  }
  if (ranges.length === 0 && !isChangedOtherwise) return null
  const size: Change['size'] = a.type === 'file' && b.type === 'file' ? [a.size, b.size] : [0, 0]
  const path = printable(b.path)
  return { path, kind: 'changed', fileType: b.type, size, isChangedOtherwise, ranges }
}

interface Tree {
  size: number
  root: Buffer | null
  place: Subtree['place']
  source: ItemSource
}

/** A page of one of the trees, at a level over some chunks. */
interface Cursor {
  subtree: Subtree
  source: ItemSource
  /** Of the page; the trees of files of two sizes can have different heights. */
  level: number
  /** Chunks of the file from the first of the page on. */
  count: number
}

/** What only one of two files has. */
function addRest(ranges: Ranges, from: number, to: number): void {
  const last = ranges.at(-1)
  const end = last === undefined ? 0 : last[0] + last[1]
  if (end >= to || from === to) return
  if (last !== undefined && end >= from) last[1] = to - last[0]
  else ranges.push([from, to - from])
}

/** Numbers of chunks that are not the same in both files, of the first `most`, in order. */
async function* changedChunks(a: Tree, b: Tree, most: number): AsyncGenerator<number> {
  const level = Math.max(heightOf(chunkCount(a.size)), heightOf(chunkCount(b.size)))
  for await (const chunk of below(top(a), top(b), level, 0)) {
    if (chunk >= most) return
    yield chunk
  }
}

function top({ size, root, place, source }: Tree): Cursor {
  const count = chunkCount(size)
  return { subtree: { hash: root, place }, source, level: heightOf(count), count }
}

async function* below(a: Cursor, b: Cursor, level: number, first: number): AsyncGenerator<number> {
  const count = Math.min(Math.max(a.count, b.count), spanOf(level))
  if (count <= 0 || sameHash(a.subtree.hash, b.subtree.hash)) return
  if (level > 0) {
    const [left, right] = [await children(a, level), await children(b, level)]
    const span = spanOf(level - 1)
    for (let i = 0; i * span < count; i++) {
      const [one, other] = [left(i), right(i)]
      yield* below(one, other, level - 1, first + i * span)
    }
    return
  }
  const [left, right] = [await entries(a), await entries(b)]
  for (let i = 0; i < count; i++) {
    if (!sameEntry(left[i], right[i])) yield first + i
  }
}

/** The pages below a page of `level`; of one that is not so high it is itself the first. */
async function children(cursor: Cursor, level: number): Promise<(i: number) => Cursor> {
  const { subtree, source, count } = cursor
  const span = spanOf(level - 1)
  const nothing = { hash: null, place: null }
  const at = (i: number, found: Subtree): Cursor => ({
    subtree: found,
    source,
    level: level - 1,
    count: Math.min(Math.max(count - i * span, 0), span)
  })
  if (cursor.level < level) {
    return (i) => (i === 0 ? { ...cursor, count: Math.min(count, span) } : at(i, nothing))
  }
  const inPage = Math.min(count, spanOf(level))
  const pages =
    subtree.hash === null || inPage === 0 ? [] : await readInner(source, subtree, level, inPage)
  return (i) => at(i, pages[i] ?? nothing)
}

async function entries({ subtree, source, count }: Cursor): Promise<(Entry | undefined)[]> {
  if (subtree.hash === null || count === 0) return []
  const leaf = await readLeaf(source, subtree, Math.min(count, spanOf(0)))
  return leaf.map(({ entry }) => entry)
}

function sameHash(a: Buffer | null, b: Buffer | null): boolean {
  return a === null || b === null ? a === b : a.equals(b)
}

/** A hole reads as zeros; that one became the other is no change of what is in a file. */
function sameEntry(a: Entry | undefined, b: Entry | undefined): boolean {
  const [one, other] = [a ?? HOLE, b ?? HOLE]
  const isEmpty = (entry: Entry): boolean => entry.kind === 'hole' || entry.kind === 'zero'
  if (isEmpty(one) || isEmpty(other)) return isEmpty(one) && isEmpty(other)
  if (one.kind === 'chunk' && other.kind === 'chunk') return one.id.equals(other.id)
  if (one.kind !== 'patched' || other.kind !== 'patched') return false
  return (
    one.base.equals(other.base) &&
    one.patches.length === other.patches.length &&
    one.patches.every(({ mask, id }, i) => {
      const patch = other.patches[i]
      return patch?.mask === mask && patch.id.equals(id)
    })
  )
}

const HOLE: Entry = { kind: 'hole' }
