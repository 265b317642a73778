import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { open } from 'node:fs/promises'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test, type TestContext } from 'node:test'
import { setTimeout } from 'node:timers/promises'
import { promisify } from 'node:util'
import * as fc from 'fast-check'
import { extents, isSparse, type Extent } from '../../lib/chunk/extents.js'
import { onEnd } from '../support/on-end.js'
import { scratch } from '../support/scratch.js'
import { collect } from './collect.js'
import { runs, writeSparse } from './sparse.js'

async function extentsOf(path: string): Promise<{ found: Extent[]; sparse: boolean }> {
  const handle = await open(path)
  try {
    const found = await collect(extents(handle.fd))
    return { found, sparse: isSparse(await handle.stat({ bigint: true })) }
  } finally {
    await handle.close()
  }
}

/** How many programs of this process have not ended yet. */
function programs(): number {
  if (process.platform !== 'linux') return 0
  const children = readFileSync(`/proc/${process.pid}/task/${process.pid}/children`, 'utf8')
  return children.split(' ').length - 1
}

async function opened(t: TestContext, pattern: readonly boolean[]) {
  const path = join(await scratch(t), 'file')
  await writeSparse(path, pattern)
  const handle = await open(path)
  onEnd(t, () => handle.close())
  return handle
}

test('the extents of a sparse file are what was written', async (t) => {
  const path = join(await scratch(t), 'file')
  const pattern = fc.array(fc.boolean(), { minLength: 1, maxLength: 64 })
  await fc.assert(
    fc.asyncProperty(pattern, fc.nat(4_095), async (pages, missing) => {
      const size = pages.length * 4_096 - missing
      await writeSparse(path, pages, size)
      const { found, sparse } = await extentsOf(path)
      assert.deepEqual(found, runs(pages, size))
      assert.equal(sparse, pages.includes(false))
    }),
    { numRuns: 25 }
  )
})

test('a file of one hole and an empty file have no extents', async (t) => {
  const path = join(await scratch(t), 'file')
  await writeSparse(path, [], 2 ** 40)
  assert.deepEqual(await extentsOf(path), { found: [], sparse: true })
  await writeSparse(path, [])
  assert.deepEqual(await extentsOf(path), { found: [], sparse: false })
})

test('thousands of extents come, and a reader may stop in the middle', async (t) => {
  const pattern = Array.from({ length: 12_000 }, (_, page) => page % 2 === 0)
  const handle = await opened(t, pattern)
  assert.deepEqual(await collect(extents(handle.fd)), runs(pattern))
  for await (const extent of extents(handle.fd)) {
    assert.deepEqual(extent, { start: 0, end: 4_096 })
    break
  }
  assert.equal(programs(), 0)
})

test('without perl it is an error, not a file without data', async (t) => {
  const handle = await opened(t, [true, false])
  const { PATH } = process.env
  onEnd(t, () => (process.env['PATH'] = PATH))
  process.env['PATH'] = '/nonexistent'
  await assert.rejects(collect(extents(handle.fd)), { code: 'FAILED', message: /perl/ })
})

test('of many files at a time only a few programs look', async (t) => {
  const handle = await opened(t, [true, false, true])
  const all = Array.from({ length: 60 }, () => collect(extents(handle.fd)))
  let most = 0
  for (let done = false; !done;) {
    most = Math.max(most, programs())
    done = await Promise.race([Promise.all(all).then(() => true), setTimeout(5, false)])
  }
  assert.ok(most <= 8, `${most} at a time`)
  for (const found of await Promise.all(all)) assert.deepEqual(found, runs([true, false, true]))
})

test('where no more files can be opened it is an error, and the process goes on', async () => {
  const script = `
    import { openSync } from 'node:fs'
    import { extents } from ${JSON.stringify(new URL('../../lib/chunk/extents.js', import.meta.url))}
    const fd = openSync(process.execPath)
    try { for (;;) openSync('/dev/null') } catch {}
    for await (const extent of extents(fd)) throw extent
  `
  const limited = ['-c', 'ulimit -n 64; exec "$0" "$@"', process.execPath]
  const run = promisify(execFile)('sh', [...limited, '--input-type=module', '-e', script])
  // Of what is thrown at the top; an event that nobody listens to has no such code.
  await assert.rejects(run, { stderr: /code: 'FAILED'/ })
})
