import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { sideBySide } from '../../lib/side-by-side.js'
import { collect } from '../chunk/collect.js'

const sequence = fc.uniqueArray(fc.nat(20)).map((numbers) => numbers.toSorted((a, b) => a - b))

async function* each<T>(all: readonly T[]): AsyncGenerator<T> {
  for (const one of all) yield one
}

test('each thing comes once, in order, beside its counterpart', async () => {
  await fc.assert(
    fc.asyncProperty(sequence, sequence, async (numbers, others) => {
      const texts = others.map(String)
      const pairs = sideBySide(each(numbers), each(texts), (a, b) => a - Number(b))
      const all = [...new Set([...numbers, ...others])].toSorted((a, b) => a - b)
      assert.deepEqual(
        await collect(pairs),
        all.map((n) => [numbers.includes(n) ? n : null, others.includes(n) ? String(n) : null])
      )
    })
  )
})
