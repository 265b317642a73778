import assert from 'node:assert/strict'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import { setTimeout } from 'node:timers/promises'
import { isAlive } from '../../lib/daemon/client.js'
import { ParcelError, type VersionInfo } from '../../lib/index.js'
import { randomBytes } from '../../lib/keys/identity.js'
import { oneHost } from './one-host.js'

/**
 * Kills the daemon at a random moment of a suspend, again and again. Every version that was
 * acknowledged must come back whole; of the others there may be nothing, or all.
 */
export async function killLoop(t: TestContext, rounds: number): Promise<void> {
  const { dir, client, folder } = await oneHost(t, 'first')

  const acknowledged = new Map<string, Buffer>()
  let killed = 0
  for (let round = 0; round < rounds; round++) {
    const bytes = randomBytes(1 + Math.floor(Math.random() * 8_000_000))
    await writeFile(join(folder, 'file'), bytes)
    // Starts a daemon if there is none, so that the kill hits the suspend.
    await client.call('id', {})
    const pid = (await client.status())?.pid ?? 0
    const suspend = client
      .call('suspend', { name: 'p', message: String(round), compress: true })
      .then(({ version }) => version.id)
      .catch((error: unknown) => {
        assert.ok(error instanceof ParcelError, String(error))
        return null
      })
    await setTimeout(Math.random() * 600)
    process.kill(pid, 'SIGKILL')
    const id = await suspend
    if (id === null) killed++
    else acknowledged.set(id, bytes)
    while (await isAlive(pid)) await setTimeout(5)
  }
  const log: VersionInfo[] = []
  await client.each('log', { name: 'p' }, (version) => log.push(version))
  for (const { id, isHere } of log) assert.ok(isHere, `version ${id} is not whole`)
  for (const [id, bytes] of acknowledged) {
    const to = join(dir, 'out', id)
    await client.call('resume', {
      name: 'p',
      version: id,
      to,
      cwd: dir,
      force: false,
      start: false,
      timeout: 1_000
    })
    assert.ok(bytes.equals(await readFile(join(to, 'file'))), `version ${id} has other bytes`)
  }
  t.diagnostic(`${killed} of ${rounds} suspends were killed, ${acknowledged.size} acknowledged`)
}
