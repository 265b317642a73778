import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import { setTimeout } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { eventually, TestHosts } from '../support/hosts.js'
import { onEnd } from '../support/on-end.js'

const PROGRAM = fileURLToPath(new URL('./strangers-program.js', import.meta.url))
const MIB = 1_048_576

/**
 * So many strangers, each with a key of its own, knock at a host that has a real peer: none gets a
 * stream, the host does not grow, and the peer is served all the while.
 */
export async function strangersKnock(t: TestContext, count: number, atOnce: number): Promise<void> {
  const hosts = await TestHosts.start(t)
  const owner = await hosts.create('owner')
  const folder = join(hosts.dir, 'folder')
  await mkdir(folder)
  await writeFile(join(folder, 'file'), 'one')
  await owner.add(folder, { name: 'p', vm: 'folder' })
  await owner.suspend('p')
  const friend = await hosts.create('friend')
  await friend.join((await owner.invite('p')).invite)
  const before = memory()
  const program = spawn(
    process.execPath,
    [PROGRAM, hosts.dht.address, owner.id, String(count), String(atOnce)],
    {
      stdio: ['ignore', 'pipe', 'inherit']
    }
  )
  onEnd(t, () => program.kill())
  let said = ''
  program.stdout.setEncoding('utf8').on('data', (text: string) => (said += text))
  let isKnocking = true
  const ended = once(program, 'exit').then(() => (isKnocking = false))
  let delay = 0
  let version = 1
  for (; isKnocking; version++) {
    await writeFile(join(folder, 'file'), `version ${version}`)
    const started = performance.now()
    await owner.suspend('p', { message: `version ${version}` })
    await eventually(async () => {
      const [newest] = await friend.log('p')
      return (newest?.message === `version ${version}` && newest.isHere) || null
    }, 'the real peer has it')
    delay = Math.max(delay, performance.now() - started)
    await setTimeout(500)
  }
  await ended
  assert.equal(said.trim(), '0', 'streams that they were given')
  // The DHT loses a few on the way.
  assert.ok(owner.refused >= 0.9 * count, `${owner.refused} refused`)
  const grown = memory() - before
  t.diagnostic(
    `${count} strangers: ${(grown / MIB).toFixed(1)} MiB more, with ${version} versions; at most ` +
      `${delay.toFixed(0)} ms to the peer`
  )
  assert.ok(grown < 50 * MIB, `${grown / MIB} MiB`)
}

setFlagsFromString('--expose-gc')
const collect: unknown = runInNewContext('gc')

/** What is held, in this process, which has the host, its peer and the DHT. */
function memory(): number {
  if (typeof collect === 'function') collect()
  const { heapUsed, external } = process.memoryUsage()
  return heapUsed + external
}
