import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test, type TestContext } from 'node:test'
import { SEGMENT_SIZE } from '../../lib/chunk/buffers.js'
import { finish } from '../support/cli.js'
import { scratch } from '../support/scratch.js'

/** Runs a program in a process of its own, which has 5 s to end by itself. */
async function program(t: TestContext, source: string) {
  const url = new URL('../../lib/chunk/worker-pool.js', import.meta.url)
  const text = `
    import { openSync } from 'node:fs'
    import { WorkerPool } from ${JSON.stringify(url.href)}
    const pool = new WorkerPool()
    const fd = openSync(process.execPath, 'r')
    ${source}`
  const path = join(await scratch(t), 'program.mjs')
  await writeFile(path, text)
  const { code, stdout } = await finish(spawn(process.execPath, [path], { timeout: 5_000 }))
  return { code, stdout }
}

test('a process waits for its reads and is not kept alive by the pool after them', async (t) => {
  const source = `
    for (let n = 0; n < 3; n++) await pool.read(fd, n, ${SEGMENT_SIZE})
    console.log('read')`
  assert.deepEqual(await program(t, source), { code: 0, stdout: 'read\n' })
})

test('closing the pool settles the reads under way', async (t) => {
  const source = `
    const reads = Array.from({ length: 8 }, (_, n) => pool.read(fd, n, ${SEGMENT_SIZE}))
    const settled = Promise.allSettled(reads)
    await pool.close()
    await settled
    console.log('settled')`
  assert.deepEqual(await program(t, source), { code: 0, stdout: 'settled\n' })
})
