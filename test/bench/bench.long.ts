import assert from 'node:assert/strict'
import { test } from 'node:test'
import { TestNetwork } from '../hosts/test-network.js'
import { bench, skip } from './small-run.js'

test('the bench measures the store', { skip }, async () => {
  const { parts } = await bench('store')
  const tasks = parts[0]?.tasks ?? []
  const [first, , index] = tasks
  assert.ok((first?.tools[0]?.figures['times']?.median ?? 0) >= 1, 'what is stored is written')
  assert.ok((index?.tools[0]?.figures['perChunk']?.median ?? 0) > 0)
  assert.equal(tasks.length, 8)
})

test('the bench measures what a suspend is told', { skip }, async () => {
  const { parts } = await bench('tracked')
  assert.equal(parts[0]?.tasks.length, 2)
})

test(
  'the bench measures a shaped link',
  { skip: skip || (TestNetwork.missing() ?? false) },
  async () => {
    const { parts } = await bench('link')
    assert.equal(parts[0]?.tasks.length, 2)
  }
)

test('the bench measures small files', { skip }, async () => {
  const { parts } = await bench('files')
  const tasks = parts[0]?.tasks ?? []
  const stored = tasks.map(({ tools }) => tools[0]?.figures['stored']?.median ?? NaN)
  const [first = NaN, second = NaN, third = NaN] = stored
  assert.ok(first > second && second > third, `stored ${stored.join(', ')}`)
  assert.equal(tasks.length, 4)
})
