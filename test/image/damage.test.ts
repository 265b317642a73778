import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { test } from 'node:test'
import { pageHash } from '../../lib/chunk/id.js'
import type { Place } from '../../lib/format/entry.js'
import { CHUNK_SIZE } from '../../lib/format/limits.js'
import { decodePlacePage, encodeIdPage, encodePlacePage } from '../../lib/format/page.js'
import { load, PageStore, store, type Placed, type Stored } from './page-store.js'

const DAMAGED = { code: 'INTEGRITY' }

function entries(count: number): Placed[] {
  return Array.from({ length: count }, (_, n) => ({
    entry: { kind: 'chunk', id: createHash('sha256').update(String(n)).digest(), holes: 0 },
    places: [{ core: 0, block: n, ordinal: 0 }]
  }))
}

async function stored(count: number): Promise<{ pages: PageStore; tree: Stored; top: Place }> {
  const pages = new PageStore()
  const tree = await store(pages, entries(count))
  assert.ok(tree.place)
  return { pages, tree, top: tree.place }
}

/** A store of its own page that says whatever it likes. */
async function put(pages: PageStore, bytes: Buffer): Promise<Place> {
  return pages.add('places', pageHash(bytes), bytes)
}

test('an id page with one bit changed is refused, wherever it is', async () => {
  const { pages, tree, top } = await stored(300)
  const root = decodePlacePage(await pages.read(top))
  assert.ok(root.level !== 0)
  const child = root.children[1]
  assert.ok(child)
  for (const place of [top, child]) {
    const { idPage } = decodePlacePage(await pages.read(place))
    const page = await pages.read(idPage)
    for (const at of [0, 1, 40, page.byteLength - 1]) {
      page[at] = (page[at] ?? 0) ^ 1
      await assert.rejects(load(pages, tree), DAMAGED)
      page[at] = (page[at] ?? 0) ^ 1
    }
  }
  assert.equal((await load(pages, tree)).length, 300)
})

test('another root, no place, and a root for another size are refused', async () => {
  const { pages, tree } = await stored(300)
  const other = await store(pages, entries(200))
  await assert.rejects(load(pages, { ...tree, root: other.root }), DAMAGED)
  await assert.rejects(load(pages, { ...tree, place: other.place }), DAMAGED)
  await assert.rejects(load(pages, { ...tree, place: null }), DAMAGED)
  for (const count of [1, 128, 129, 256, 299, 301, 384, 385, 16_384, 16_385, 2 ** 30]) {
    await assert.rejects(load(pages, { ...tree, size: count * CHUNK_SIZE }), DAMAGED, String(count))
  }
})

test('places of two children swapped are refused', async () => {
  const { pages, tree, top } = await stored(300)
  const page = decodePlacePage(await pages.read(top))
  assert.ok(page.level !== 0)
  const [first = null, second = null, third = null] = page.children
  const swap = async (children: (Place | null)[]) => {
    const place = await put(pages, encodePlacePage({ ...page, children }))
    return load(pages, { ...tree, place })
  }
  await assert.rejects(swap([second, first, third]), DAMAGED)
  await assert.rejects(swap([first, second]), DAMAGED)
  await assert.rejects(swap([first, second, third, third]), DAMAGED)
  await assert.rejects(swap([first, second, null]), DAMAGED)
  assert.equal((await swap([first, second, third])).length, 300)
})

test('a place page of another height or length than its id page is refused', async () => {
  const { pages, tree, top } = await stored(100)
  const leaf = decodePlacePage(await pages.read(top))
  assert.ok(leaf.level === 0)
  const { idPage, items } = leaf
  const wrong = [
    encodePlacePage({ level: 1, idPage, children: [top] }),
    encodePlacePage({ level: 0, idPage, items: items.slice(1) }),
    encodePlacePage({ level: 0, idPage, items: [...items, []] }),
    encodePlacePage({ level: 0, idPage: top, items }),
    await pages.read(idPage)
  ]
  for (const bytes of wrong) {
    const place = await put(pages, bytes)
    await assert.rejects(load(pages, { ...tree, place }), DAMAGED)
  }
})

test('an id page that has its hash but another height or length is refused', async () => {
  const pages = new PageStore()
  const all = entries(128).map(({ entry }) => entry)
  const items = entries(128).map(({ places }) => places)
  const forge = async (page: Parameters<typeof encodeIdPage>[0], size: number) => {
    const bytes = encodeIdPage(page)
    const idPage = await put(pages, bytes)
    const place = await put(pages, encodePlacePage({ level: 0, idPage, items }))
    return load(pages, { size, root: pageHash(bytes), place })
  }
  const size = 128 * CHUNK_SIZE
  assert.equal((await forge({ level: 0, entries: all }, size)).length, 128)
  await assert.rejects(forge({ level: 0, entries: all.slice(1) }, size), DAMAGED)
  await assert.rejects(forge({ level: 0, entries: all }, size + CHUNK_SIZE), DAMAGED)
  await assert.rejects(forge({ level: 1, children: [null] }, size), DAMAGED)
})
