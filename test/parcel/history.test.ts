import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import type { Version } from '../../lib/format/version.js'
import { Identity } from '../../lib/keys/identity.js'
import { History, signVersion, stateName } from '../../lib/parcel/history.js'
import { AUTHOR, PARCEL, version } from './versions.js'

type Signed = ReturnType<typeof signVersion> & Pick<Version, 'parents' | 'created'>

function add(history: History, { bytes, signature }: Signed | ReturnType<typeof signVersion>) {
  return history.addVersion(bytes, signature, AUTHOR.publicKey)
}

/** Versions that each continue some earlier ones; times with many ties and in no order. */
const dag = fc
  .array(fc.tuple(fc.uniqueArray(fc.nat(30), { maxLength: 3 }), fc.nat(5)), { maxLength: 20 })
  .map((nodes) => {
    const signed: Signed[] = []
    for (const [n, [picks, created]] of nodes.entries()) {
      const chosen = new Set(n === 0 ? [] : picks.map((pick) => pick % n))
      const parents = [...chosen].flatMap((at) => signed[at]?.id ?? [])
      const one = signVersion(AUTHOR, version({ parents, created, table: { size: n, root: null } }))
      signed.push({ ...one, parents, created })
    }
    return signed
  })
const shuffled = dag.chain((signed) =>
  fc.shuffledSubarray(signed, { minLength: signed.length }).map((arrived) => ({ signed, arrived }))
)

function hex(ids: readonly { id: Buffer }[]): string[] {
  return ids.map(({ id }) => id.toString('hex'))
}

/** Again and again the newest of those whose children are all listed. */
function modelList(signed: readonly Signed[]): Signed[] {
  const left = new Set(signed)
  const listed: Signed[] = []
  while (left.size > 0) {
    const ready = [...left].filter(({ id }) => {
      return ![...left].some(({ parents }) => parents.some((parent) => parent.equals(id)))
    })
    ready.sort((a, b) => b.created - a.created || Buffer.compare(b.id, a.id))
    const [next] = ready
    assert.ok(next)
    left.delete(next)
    listed.push(next)
  }
  return listed
}

test('heads and order are those of the DAG, however it arrived', () => {
  fc.assert(
    fc.property(shuffled, ({ signed, arrived }) => {
      const history = new History(PARCEL)
      for (const one of arrived) assert.deepEqual(add(history, one).id, one.id)
      for (const one of arrived) add(history, one)
      assert.equal(history.size, signed.length)
      const isParent = (id: Buffer): boolean =>
        signed.some(({ parents }) => parents.some((parent) => parent.equals(id)))
      const list = modelList(signed)
      assert.deepEqual(hex(history.list()), hex(list))
      assert.deepEqual(hex(history.heads()), hex(list.filter(({ id }) => !isParent(id))))
      for (const { id } of signed) assert.equal(history.isHead(id), !isParent(id))
    }),
    { numRuns: 200 }
  )
})

test('a version whose parent has not arrived is listed; the parent is no head when it comes', () => {
  const parent = signVersion(AUTHOR, version({ message: 'parent' }))
  const child = signVersion(AUTHOR, version({ parents: [parent.id] }))
  const history = new History(PARCEL)
  add(history, child)
  assert.deepEqual(hex(history.list()), hex([child]))
  assert.deepEqual(hex(history.heads()), hex([child]))
  add(history, parent)
  assert.deepEqual(hex(history.list()), hex([child, parent]))
  assert.deepEqual(hex(history.heads()), hex([child]))
})

test('resolve takes a beginning of four or more digits that fits one version', () => {
  const history = new History(PARCEL)
  const byStart = new Map<string, string>()
  let pair: string[] = []
  for (let n = 0; pair.length === 0; n++) {
    const id = add(history, signVersion(AUTHOR, version({ created: n }))).id.toString('hex')
    const other = byStart.get(id.slice(0, 4))
    if (other !== undefined) pair = [id, other]
    byStart.set(id.slice(0, 4), id)
  }
  const unknown = { code: 'UNKNOWN_VERSION' }
  const [a = '', b = ''] = pair
  assert.throws(() => history.resolve(a.slice(0, 4)), { ...unknown, message: /fits 2 versions/ })
  let shared = 4
  while (a[shared] === b[shared]) shared++
  for (const id of [a, b]) {
    for (let length = shared + 1; length <= 64; length++) {
      assert.equal(history.resolve(id.slice(0, length)).id.toString('hex'), id)
    }
    assert.equal(history.resolve(id.toUpperCase()).id.toString('hex'), id)
  }
  for (const text of ['', 'abc', a.slice(0, 3), `${a}0`, 'zzzz', '.*..', 'f'.repeat(64)]) {
    assert.throws(() => history.resolve(text), unknown, text)
  }
})

test("what is damaged, another parcel's or another author's is refused", () => {
  const history = new History(PARCEL)
  const refused = { code: 'INTEGRITY' }
  const { bytes, signature } = signVersion(AUTHOR, version())
  const changed = Buffer.from(bytes)
  changed[bytes.byteLength - 3] = 1
  const author = AUTHOR.publicKey
  assert.throws(() => history.addVersion(changed, signature, author), refused)
  assert.throws(() => history.addVersion(bytes, Buffer.alloc(64), author), refused)
  const foreign = signVersion(AUTHOR, version({ parcel: Buffer.alloc(32, 2) }))
  assert.throws(() => add(history, foreign), refused)
  const mallory = Identity.create()
  const forged = signVersion(mallory, version())
  assert.throws(() => add(history, forged), refused, 'signed by another than the author')
  const other = signVersion(mallory, version({ author: mallory.publicKey }))
  assert.throws(() => add(history, other), refused, "in another host's log")
  assert.equal(history.size, 0)
})

test('later places replace earlier ones; without any it is UNREACHABLE', () => {
  const history = new History(PARCEL)
  const { id } = add(history, signVersion(AUTHOR, version()))
  assert.throws(() => history.places(id), { code: 'UNREACHABLE' })
  const roots = { size: 0, root: null, place: null }
  const places = { version: id, cores: [], table: null, roots }
  history.addPlaces(places, AUTHOR.publicKey)
  const later = { ...places, roots: { ...roots, size: 1 } }
  history.addPlaces(later, AUTHOR.publicKey)
  // What others say of this version is nobody's business.
  history.addPlaces({ ...later, roots: { ...roots, size: 2 } }, Buffer.alloc(32, 9))
  assert.deepEqual(history.places(id), later)
  history.addPlaces({ ...later, cores: [Buffer.alloc(32, 5)] }, AUTHOR.publicKey)
  assert.throws(() => history.places(id), { code: 'INTEGRITY' })
})

test('where a version is, its author says and this host; nobody else', () => {
  const [self, other] = [Identity.create(), Identity.create()]
  const data = { key: Buffer.alloc(32, 4), fork: 0, length: 9, treeHash: Buffer.alloc(32, 5) }
  const signed = signVersion(AUTHOR, version({ cores: [data] }))
  const places = (key: Buffer) => ({
    version: signed.id,
    cores: [data.key, key],
    table: null,
    roots: { size: 0, root: null, place: null }
  })
  const head = (fill: number) => ({ ...data, key: Buffer.alloc(32, fill) })
  const standing = { best: 4 }
  const history = new History(PARCEL, {
    standing: (heads) => (heads.every(({ key }) => key[0] === standing.best) ? 2 : 0),
    self: self.publicKey.toString('hex')
  })
  add(history, signed)
  const named = (): number | undefined => history.coresOf(signed.id)[0]?.key[0]
  history.addMoved({ places: places(head(6).key), heads: [head(6)] }, other.publicKey)
  assert.equal(history.isPlaced(signed.id), false, 'a stranger’s word')
  history.addPlaces({ ...places(data.key), cores: [data.key] }, AUTHOR.publicKey)
  standing.best = 6
  assert.equal(named(), 4)
  history.addMoved({ places: places(head(7).key), heads: [head(7)] }, AUTHOR.publicKey)
  history.addMoved({ places: places(head(8).key), heads: [head(8)] }, self.publicKey)
  for (const [best, found] of [
    [7, 7],
    [8, 8],
    [4, 4],
    [6, 8]
  ] as const) {
    standing.best = best
    assert.equal(named(), found)
  }
  // It is nowhere any more where it was said to be by whoever has a say.
  history.strays = new Set([4, 7, 8].map((fill) => stateName(head(fill))))
  standing.best = 6
  assert.equal(named(), 6)
  history.strays = new Set([4, 8].map((fill) => stateName(head(fill))))
  assert.notEqual(named(), 6)
})
