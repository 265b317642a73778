import assert from 'node:assert/strict'
import { readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import { setTimeout } from 'node:timers/promises'
import { isAlive } from '../../lib/daemon/client.js'
import { ParcelError } from '../../lib/index.js'
import { randomBytes } from '../../lib/keys/identity.js'
import { oneHost } from './one-host.js'

const KEPT = 3
const POLICY = { last: KEPT, daily: 0, weekly: 0, tags: [] }

/**
 * Kills the daemon at a random moment of a prune, again and again. What is kept must be what it was, and
 * in the end the space of the rest must have come back.
 */
export async function killPruneLoop(t: TestContext, rounds: number): Promise<void> {
  const bytes = randomBytes(8_000_000)
  const { dir, client, folder } = await oneHost(t, bytes)
  const kept: { id: string; bytes: Buffer }[] = []
  const suspend = async (): Promise<void> => {
    bytes.set(randomBytes(1_000_000), Math.floor(Math.random() * 7_000_000))
    await writeFile(join(folder, 'file'), bytes)
    const { version } = await client.call('suspend', { name: 'p', message: '', compress: true })
    kept.push({ id: version.id, bytes: Buffer.from(bytes) })
    kept.splice(0, kept.length - KEPT)
  }
  const check = async (): Promise<void> => {
    const to = join(dir, 'out')
    for (const each of kept) {
      await client.call('restore', { name: 'p', version: each.id, to, paths: [], timeout: 1_000 })
      assert.ok(each.bytes.equals(await readFile(join(to, 'file'))), `version ${each.id}`)
      await rm(to, { recursive: true })
    }
  }
  await client.call('copies', { name: 'p', count: 0 })
  const forget = { name: 'p', versions: [], policy: POLICY, isDry: false }
  let killed = 0
  for (let round = 0; round < rounds; round++) {
    for (let n = 0; n < KEPT; n++) await suspend()
    await client.call('forget', forget)
    const pid = (await client.status())?.pid ?? 0
    const prune = client.call('prune', { name: 'p', timeout: 0 }).then(
      () => true,
      (error: unknown) => {
        assert.ok(error instanceof ParcelError, String(error))
        return false
      }
    )
    await setTimeout(Math.random() * 700)
    process.kill(pid, 'SIGKILL')
    if (!(await prune)) killed++
    while (await isAlive(pid)) await setTimeout(5)
    await check()
  }
  await client.call('forget', forget)
  await client.call('prune', { name: 'p', timeout: 0 })
  await check()
  await client.each('verify', { sample: 1, timeout: 0 }, (loss) =>
    assert.fail(JSON.stringify(loss))
  )
  const { used } = await client.call('vaults', {})
  t.diagnostic(`${killed} of ${rounds} prunes were killed; ${used} bytes`)
  // The kept versions, what is written twice until it is opened again, and no more.
  assert.ok(used < 2 * (8_000_000 + KEPT * 1_200_000) + 4_000_000, `${used} bytes`)
}
