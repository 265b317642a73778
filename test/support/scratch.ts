import { mkdtemp, realpath, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import { onEnd } from './on-end.js'

/** A folder that goes away with the test. */
export async function scratch(t: TestContext): Promise<string> {
  const dir = await realpath(await mkdtemp(join(tmpdir(), 'hyperparcel-test-')))
  onEnd(t, () => rm(dir, { recursive: true, force: true, maxRetries: 3 }))
  return dir
}
