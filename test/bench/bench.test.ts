import assert from 'node:assert/strict'
import { test } from 'node:test'
import { bench, skip } from './small-run.js'

test('the bench measures suspends and a restore', { skip }, async () => {
  const { tools, parts } = await bench('suspend', 'hyperparcel,hyperparcel-daemon')
  assert.deepEqual(
    tools.map(({ tool }) => tool),
    ['hyperparcel', 'hyperparcel-daemon']
  )
  assert.equal(parts.length, 1)
  const all = parts[0]?.tasks ?? []
  const tasks = new Map(all.map(({ task, tools }) => [task, tools[0]?.figures ?? {}]))
  assert.deepEqual(
    [...tasks.keys()],
    ['first suspend', 'second, after the changes', 'third, unchanged', 'restore to files']
  )
  for (const { figures } of all.flatMap(({ tools }) => tools.filter(isWhole))) {
    for (const metric of ['wall', 'cpu', 'rss']) assert.ok((figures[metric]?.median ?? 0) > 0)
  }
  const stored = [...tasks.values()].slice(0, 3).map(({ stored }) => stored?.median ?? NaN)
  const [first = NaN, second = NaN, third = NaN] = stored
  assert.ok(first > second && second > third, `stored ${stored.join(', ')}`)
})

/** Not the row of a call alone. */
function isWhole({ tool }: { tool: string }): boolean {
  return !tool.includes(',')
}

test('the bench measures what crosses over', { skip }, async () => {
  const { parts } = await bench('across')
  for (const { tools } of parts[0]?.tasks ?? []) {
    for (const metric of ['wall', 'cpu', 'wire', 'rss']) {
      assert.ok((tools[0]?.figures[metric]?.median ?? 0) > 0, metric)
    }
  }
  assert.equal(parts[0]?.tasks.length, 5)
})
