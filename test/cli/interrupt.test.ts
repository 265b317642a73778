import assert from 'node:assert/strict'
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { readdir, stat } from 'node:fs/promises'
import { test, type TestContext } from 'node:test'
import { finish, type Ran } from '../support/cli.js'
import { eventually } from '../support/hosts.js'
import { randomFile } from './blob.js'
import { failure, objects, Place, type User } from './place.js'

const BIG = 1024

/** A folder parcel with one version of a small file; then a big one is put beside it. */
async function bigFolder(t: TestContext): Promise<{ place: Place; user: User; first: string }> {
  const place = await Place.make(t)
  const user = await place.host('one')
  await place.write('files/a', 'small')
  await user.ok('add', place.path('files'), '--name', 'files')
  const { id } = await user.result('suspend', 'files')
  await randomFile(place.path('files/big'), BIG)
  return { place, user, first: String(id) }
}

/** Sends a signal once the command has said that this step is under way. */
async function interruptAt(
  child: ChildProcess,
  step: string,
  signal: 'SIGINT' | 'SIGTERM'
): Promise<Ran> {
  const ended = finish(child)
  let text = ''
  while (!text.includes(`"step":"${step}"`)) {
    const [data]: unknown[] = await once(child.stdout ?? child, 'data')
    text += String(data)
  }
  child.kill(signal)
  return ended
}

test('Ctrl-C in a big suspend: exit 130, no version, and the next suspend works', async (t) => {
  const { place, user, first } = await bigFolder(t)
  const ran = await interruptAt(user.start('suspend', 'files', '--json'), 'storing', 'SIGINT')
  assert.equal(ran.code, 130, ran.stdout + ran.stderr)
  const error = objects(ran.stdout).at(-1)
  assert.deepEqual(
    [error?.['type'], error?.['code'], error?.['exit']],
    ['error', 'INTERRUPTED', 130]
  )
  assert.match(String(error?.['message']), /interrupted/)
  const log = objects(await user.ok('log', 'files', '--json'))
  assert.deepEqual(
    log.map(({ id }) => id),
    [first]
  )
  const second = await user.result('suspend', 'files')
  assert.deepEqual(second['parents'], [first])

  // The same version, brought back: interrupted while it is written, then whole.
  const copy = place.path('copies/copy')
  const resume = user.start('resume', 'files', '--json', '--to', copy)
  assert.equal((await interruptAt(resume, 'writing', 'SIGINT')).code, 130)
  assert.deepEqual(await readdir(place.path('copies')), [])
  assert.equal((await user.result('status', 'files'))['path'], place.path('files'))
  await user.ok('resume', 'files', '--to', copy)
  assert.deepEqual(await readdir(place.path('copies')), ['copy'])
  assert.equal((await stat(place.path('copies/copy/big'))).size, BIG << 20)
})

test('Ctrl-C twice ends at once; the daemon still leaves no version', async (t) => {
  const { user, first } = await bigFolder(t)
  const child = user.start('suspend', 'files', '--json')
  const ended = finish(child)
  await once(child.stdout ?? child, 'data')
  // Whoever answers it stands still: the first Ctrl-C cannot be obeyed.
  const daemon = await user.daemonPid()
  process.kill(daemon, 'SIGSTOP')
  child.kill('SIGINT')
  const started = performance.now()
  setTimeout(() => child.kill('SIGINT'), 300)
  assert.equal((await ended).code, 130)
  assert.ok(performance.now() - started < 2_000)
  process.kill(daemon, 'SIGCONT')
  await user.ok('daemon', 'stop')
  const log = objects(await user.ok('log', 'files', '--json'))
  assert.deepEqual(
    log.map(({ id }) => id),
    [first]
  )
})

test('a caller killed -9 interrupts its verb', async (t) => {
  const { user, first } = await bigFolder(t)
  const child = user.start('suspend', 'files', '--json')
  const ended = finish(child)
  await once(child.stdout ?? child, 'data')
  child.kill('SIGKILL')
  await ended
  const log = objects(await user.ok('log', 'files', '--json'))
  assert.deepEqual(
    log.map(({ id }) => id),
    [first]
  )
  await eventually(
    async () => ((await user.client.status())?.active === 0 ? true : null),
    'the end of the verb',
    5_000
  )
})

test('Ctrl-C in a plain pipe says it in one line', async (t) => {
  const { user } = await bigFolder(t)
  const child = user.start('suspend', 'files')
  const ended = finish(child)
  await eventually(
    async () => ((await user.client.status())?.active === 1 ? true : null),
    'a verb under way'
  )
  child.kill('SIGINT')
  assert.match(failure(await ended, 130, 'suspend'), /interrupted/)
})
