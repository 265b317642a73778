import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import type { TestContext } from 'node:test'
import { ParcelError } from '../../lib/index.js'
import { randomBytes } from '../../lib/keys/identity.js'
import { oneHost } from './one-host.js'

const CALLS = 'write,pwrite64,pwritev,fdatasync,fsync,ftruncate,fallocate'
/** A tracer lets go within this, ms. */
const PATIENCE = 10_000
/** Files that RocksDB may make meanwhile, from the ones that are there on. */
const AHEAD = 60

/** Paths of a database's files, those that are there and those that it makes next. */
async function filesOf(dir: string): Promise<string[]> {
  const names = await readdir(dir)
  // A LOG.old has a time in its name.
  const numbers = names.flatMap((name) => Number(/^(?:[A-Z]+-)?(\d+)/.exec(name)?.[1] ?? 0))
  const newest = Math.max(0, ...numbers)
  const next = Array.from({ length: AHEAD }, (_, n) => String(newest + 1 + n).padStart(6, '0'))
  const made = next.flatMap((number) => [
    `${number}.log`,
    `${number}.sst`,
    `${number}.blob`,
    `MANIFEST-${number}`,
    `OPTIONS-${number}`
  ])
  return [...names, ...made].map((name) => join(dir, name))
}

/** Makes the n-th write to the store of each thread of a process fail, until the returned function is called. */
async function failWrite(home: string, pid: number, error: string, n: number) {
  const files = [
    ...(await filesOf(join(home, 'store/db'))),
    ...(await filesOf(join(home, 'index')))
  ]
  const paths = files.flatMap((path) => ['-P', path])
  const inject = `inject=${CALLS}:error=${error}:when=${n}`
  const args = ['-f', '-p', String(pid), ...paths, '-e', `trace=${CALLS}`, '-e', inject]
  const tracer = spawn('strace', args, { stdio: ['ignore', 'ignore', 'pipe'] })
  let injected = 0
  const lines = createInterface({ input: tracer.stderr })
  const said: string[] = []
  const attached = new Promise<void>((resolve, reject) => {
    tracer.on('exit', () => reject(new Error(`strace ended: ${said.join(' ')}`)))
    lines.on('line', (line) => {
      said.push(line)
      said.splice(0, said.length - 20)
      if (line.includes('(INJECTED)')) injected++
      if (line.includes('attached')) resolve()
    })
  })
  await attached
  return async (): Promise<number> => {
    const isUp = tracer.exitCode === null && tracer.signalCode === null
    const ended = isUp ? once(tracer, 'exit') : Promise.resolve()
    tracer.kill('SIGINT')
    // strace was seen to wait for ever for a thread that had ended. Killed, it lets go of all.
    const late = setTimeout(() => tracer.kill('SIGKILL'), PATIENCE)
    await ended
    clearTimeout(late)
    return injected
  }
}

/**
 * Lets each of some writes of a suspend fail once, in the order of their numbers, until one is larger than
 * there are writes. The suspend then succeeds or fails with one clear line; no version is lost that was
 * acknowledged, and the next suspend is as good as any.
 */
export async function failEachWrite(
  t: TestContext,
  error: 'ENOSPC' | 'EIO',
  numbers: Iterable<number>
): Promise<void> {
  const bytes = randomBytes(3_000_000)
  const { dir, home, client, folder } = await oneHost(t, bytes)
  const suspend = async (): Promise<string> => {
    bytes.set(randomBytes(1_500_000), Math.floor(Math.random() * 1_500_000))
    await writeFile(join(folder, 'file'), bytes)
    const call = { name: 'p', message: '', compress: true }
    return (await client.call('suspend', call)).version.id
  }
  const acknowledged = new Map<string, Buffer>()
  acknowledged.set(await suspend(), Buffer.from(bytes))
  const codes = new Map<string, number>()
  let [failed, tried] = [0, 0]
  for (const n of numbers) {
    const pid = (await client.status())?.pid
    assert.ok(pid !== undefined, 'no daemon runs')
    const stop = await failWrite(home, pid, error, n)
    const outcome = await suspend().catch((thrown: unknown) => {
      assert.ok(thrown instanceof ParcelError, String(thrown))
      assert.match(thrown.message, /^[^\n]+$/)
      codes.set(thrown.code, (codes.get(thrown.code) ?? 0) + 1)
      return null
    })
    const injected = await stop()
    tried++
    if (outcome === null) failed++
    else acknowledged.set(outcome, Buffer.from(bytes))
    // As the daemon is, and as the next one is.
    for (const isNew of [false, true]) {
      if (isNew) await client.stop()
      acknowledged.set(await suspend(), Buffer.from(bytes))
      const here = new Set<string>()
      await client.each('log', { name: 'p' }, ({ id, isHere }) => isHere && here.add(id))
      for (const id of acknowledged.keys()) assert.ok(here.has(id), `${n}: ${id} is not here`)
    }
    if (injected === 0) break
  }
  const to = join(dir, 'out')
  for (const [version, contents] of acknowledged) {
    await client.call('restore', { name: 'p', version, to, paths: [], timeout: 1_000 })
    assert.ok(contents.equals(await readFile(join(to, 'file'))), version)
    await rm(to, { recursive: true })
  }
  await client.each('verify', { sample: 1, timeout: 0 }, (loss) =>
    assert.fail(JSON.stringify(loss))
  )
  t.diagnostic(
    `${error}: ${failed} of ${tried} suspends failed: ${[...codes].map((pair) => pair.join(' ')).join(', ')}`
  )
}
