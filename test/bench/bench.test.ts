import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { z } from 'zod'

const MAIN = fileURLToPath(new URL('./main.js', import.meta.url))

const Figure = z.object({ median: z.number(), min: z.number(), max: z.number() })
const Report = z.object({
  machine: z.object({ cores: z.number(), kernel: z.string() }),
  tools: z.array(z.object({ tool: z.string(), version: z.string().nullable(), how: z.string() })),
  parts: z.array(
    z.object({
      part: z.string(),
      data: z.string(),
      tasks: z.array(
        z.object({
          task: z.string(),
          tools: z.array(z.object({ tool: z.string(), figures: z.record(z.string(), Figure) }))
        })
      )
    })
  )
})

async function bench(part: string): Promise<z.infer<typeof Report>> {
  const args = [MAIN, part, '--data', '32', '--runs', '1', '--tools', 'hyperparcel', '--json']
  const { stdout } = await promisify(execFile)(process.execPath, args)
  return Report.parse(JSON.parse(stdout))
}

test('the bench measures suspends and a restore', async () => {
  const { tools, parts } = await bench('suspend')
  assert.deepEqual(
    tools.map(({ tool }) => tool),
    ['hyperparcel']
  )
  assert.equal(parts.length, 1)
  const tasks = new Map(parts[0]?.tasks.map(({ task, tools }) => [task, tools[0]?.figures ?? {}]))
  assert.deepEqual(
    [...tasks.keys()],
    ['first suspend', 'second, after the changes', 'third, unchanged', 'restore to files']
  )
  for (const figures of tasks.values()) {
    for (const metric of ['wall', 'cpu', 'rss']) assert.ok((figures[metric]?.median ?? 0) > 0)
  }
  const stored = [...tasks.values()].slice(0, 3).map(({ stored }) => stored?.median ?? NaN)
  const [first = NaN, second = NaN, third = NaN] = stored
  assert.ok(first > second && second > third, `stored ${stored.join(', ')}`)
})

test('the bench measures what crosses over', async () => {
  const { parts } = await bench('across')
  for (const { tools } of parts[0]?.tasks ?? []) {
    for (const metric of ['wall', 'cpu', 'wire', 'rss']) {
      assert.ok((tools[0]?.figures[metric]?.median ?? 0) > 0, metric)
    }
  }
  assert.equal(parts[0]?.tasks.length, 5)
})

test('the bench measures the store', async () => {
  const { parts } = await bench('store')
  const tasks = parts[0]?.tasks ?? []
  const [first, , index] = tasks
  assert.ok((first?.tools[0]?.figures['times']?.median ?? 0) >= 1, 'what is stored is written')
  assert.ok((index?.tools[0]?.figures['perChunk']?.median ?? 0) > 0)
  assert.equal(tasks.length, 8)
})
