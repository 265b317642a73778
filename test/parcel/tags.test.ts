import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import type { Tag } from '../../lib/format/meta-record.js'
import { Tags } from '../../lib/parcel/tags.js'

const CORE = Buffer.alloc(32)

test('what a name stands for does not depend on the order in which it is heard', () => {
  const said = fc.record({
    name: fc.constantFrom('a', 'b'),
    version: fc.option(fc.integer({ min: 0, max: 3 }).map((n) => Buffer.alloc(32, n))),
    number: fc.integer({ min: 1, max: 4 }),
    host: fc.constantFrom('01', '02', '03')
  })
  // A host that was put back may say two things under one number.
  const all = fc.array(said, { maxLength: 24 })
  fc.assert(
    fc.property(
      all,
      fc.infiniteStream(fc.double({ min: 0, max: 1, noNaN: true })),
      (list, order) => {
        const one = new Tags(() => true)
        const other = new Tags(() => true)
        const add = (tags: Tags, { host, ...tag }: Tag & { host: string }): void =>
          tags.add(tag, host, { core: CORE, index: 1 })
        for (const each of list) add(one, each)
        const keys = new Map(list.map((each) => [each, order.next().value]))
        for (const each of list.toSorted((a, b) => (keys.get(a) ?? 0) - (keys.get(b) ?? 0))) {
          add(other, each)
        }
        assert.deepEqual(one.list(), other.list())
      }
    )
  )
})

test('a later word replaces an earlier one; of who is shut out none counts', () => {
  const shut = new Set<string>()
  const tags = new Tags((host) => !shut.has(host))
  const [x, y] = [Buffer.alloc(32, 1), Buffer.alloc(32, 2)]
  const say = (host: string, version: Buffer | null): void =>
    tags.add(tags.next('t', version), host, { core: CORE, index: 1 })
  say('02', x)
  assert.deepEqual(tags.get('t'), x)
  say('01', y)
  assert.deepEqual(tags.of(y), ['t'])
  say('02', null)
  assert.equal(tags.get('t'), null)
  shut.add('02')
  tags.judge()
  assert.deepEqual(tags.list(), [{ name: 't', version: y }])
})

test('nobody takes room from others, or a name that stands for something else', () => {
  const tags = new Tags((host) => host !== 'reader')
  const version = Buffer.alloc(32, 1)
  const where = { core: CORE, index: 1 }
  tags.add({ name: 'mine', version, number: 1 }, 'owner', where)
  for (let n = 0; n < 100; n++) {
    tags.add({ name: 'mine', version: null, number: 2 ** 40 }, 'reader', where)
  }
  for (let n = 0; n < 5_000; n++) {
    tags.add({ name: `t${n}`, version, number: 1 }, 'runner', where)
  }
  tags.add({ name: 'later', version, number: 1 }, 'owner', where)
  for (const wrong of ['', 'abcdef012345', '01'.repeat(32), 'a\nb', '../up', '-x']) {
    tags.add({ name: wrong, version, number: 1 }, 'owner', where)
    assert.equal(tags.get(wrong), null)
  }
  assert.deepEqual(tags.get('mine'), version)
  assert.deepEqual(tags.get('later'), version)
  assert.equal(tags.list().length, 1_024 + 2)
})
