import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { test } from 'node:test'
import { failure, objects, Place } from './place.js'

/** What is wrong whatever the home: the verb, the arguments. */
const USAGE = [
  [],
  ['frobnicate'],
  ['--frobnicate'],
  ['ls', 'too', 'many'],
  ['add'],
  ['add', '/tmp'],
  ['add', '/tmp', '--name'],
  ['suspend'],
  ['resume', 'x', '--timeout', 'soon'],
  ['resume', 'x', '--timeout', '-1'],
  ['invite', 'x', '--for', '0'],
  ['invite', 'x', '--for', 'ever'],
  ['dht', '--port', '65536'],
  ['daemon', 'dance'],
  ['ls', '--bootstrap', 'nowhere']
]

/** What is wrong in a home with the folder parcel "files" that has no version. */
const REFUSED: [number, ...string[]][] = [
  [1, 'init'],
  [1, 'status', 'nobody'],
  [1, 'log', 'nobody'],
  [1, 'run', 'nobody'],
  [1, 'stop', 'nobody'],
  [1, 'attach', 'nobody'],
  [1, 'suspend', 'nobody'],
  [1, 'checkpoint', 'nobody'],
  [1, 'resume', 'nobody'],
  [1, 'invite', 'nobody'],
  [2, 'join', 'nonsense'],
  [2, 'join', ''],
  [2, 'run', 'files'],
  [1, 'stop', 'files'],
  [1, 'attach', 'files'],
  [1, 'resume', 'files'],
  [1, 'resume', 'files', '--version', 'ffff'],
  [1, 'resume', 'files', '--version', 'not hex'],
  [2, 'add', '/nowhere', '--name', 'x'],
  [2, 'add', '/proc/self/status', '--name', 'x'],
  [2, 'add', '/tmp', '--name', '../x'],
  [2, 'add', '/tmp', '--name', ''],
  [2, 'add', '/tmp', '--name', 'x'.repeat(65)],
  [2, 'add', '/tmp', '--name', 'a\nb'],
  [2, 'add', '/tmp', '--name', 'x', '--vm', 'vax'],
  [1, 'add', '/tmp', '--name', 'files'],
  [2, 'resume', 'files', '--policy', 'baseline', '--no-prefetch'],
  [2, 'resume', 'files', '--policy', 'hoard', '--no-prefetch'],
  [2, 'doctor', '--accelerator', 'tcg'],
  [2, 'suspend', 'files', '--message', 'x'.repeat(5_000)],
  [2, 'suspend', 'x'.repeat(5_000)],
  [2, 'resume', 'files', '--to', '/' + 'x'.repeat(5_000)]
]

test('a wrong command line is exit 2, in one line with what to do', async (t) => {
  const place = await Place.make(t)
  const user = await place.host('one')
  for (const args of USAGE) {
    const { code, stdout, stderr } = await user.run(...args)
    assert.equal(code, 2, `${args.join(' ')}: ${stdout}${stderr}`)
    assert.equal(stdout, '')
    assert.doesNotMatch(stderr, /\n +at /)
    if (args.length > 0) assert.match(stderr, /--help|private DHT|host:port/, args.join(' '))
  }
})

test('with --json a wrong command line is one object too', async (t) => {
  const place = await Place.make(t)
  const user = await place.host('one')
  for (const args of [['frobnicate'], ['suspend'], ['invite', 'x', '--for', '0']]) {
    const { code, stdout, stderr } = await user.run(...args, '--json')
    assert.equal(code, 2)
    const [error, ...others] = objects(stdout)
    assert.deepEqual(others, [])
    assert.deepEqual([error?.['type'], error?.['exit']], ['error', 2], args.join(' '))
    assert.equal(stderr, '')
  }
})

test('every refusal is one line, and one object with --json', async (t) => {
  const place = await Place.make(t)
  const user = await place.host('one')
  await place.write('files/a', 'a')
  await user.ok('add', place.path('files'), '--name', 'files')
  const problems: string[] = []
  // By turns, since the words are the same: for people, for programs.
  for (const [n, [exit, ...args]] of REFUSED.entries()) {
    const what = args.join(' ').slice(0, 60)
    try {
      if (n % 2 === 0) {
        const ran = await user.run(...args)
        failure(ran, exit, what)
        assert.equal(ran.stdout, '')
        continue
      }
      const { code, stdout, stderr } = await user.run(...args, '--json')
      assert.deepEqual([code, stderr], [exit, ''])
      const error = objects(stdout).at(-1)
      assert.deepEqual([error?.['type'], error?.['exit']], ['error', exit])
      assert.match(String(error?.['message']), /^[^\n✖]+$/)
    } catch (error) {
      problems.push(`${what}: ${error instanceof Error ? error.message : String(error)}`)
    }
  }
  assert.deepEqual(problems, [])
})

test('every result is one object a line with --json', async (t) => {
  const place = await Place.make(t)
  const user = await place.host('one')
  await place.write('files/a', 'a')
  const verbs = [
    ['add', place.path('files'), '--name', 'files'],
    ['ls'],
    ['suspend', 'files'],
    ['checkpoint', 'files'],
    ['log', 'files'],
    ['status'],
    ['status', 'files'],
    ['resume', 'files'],
    ['invite', 'files'],
    ['daemon', 'status'],
    ['daemon', 'stop'],
    ['daemon', 'stop'],
    ['daemon', 'status']
  ]
  for (const args of verbs) {
    const { code, stdout, stderr } = await user.run('--json', ...args)
    assert.deepEqual([code, stderr], [0, ''], args.join(' '))
    assert.ok(
      objects(stdout).every(({ type }) => typeof type === 'string'),
      stdout
    )
    assert.notEqual(objects(stdout).length, 0, args.join(' '))
  }
})

test('a reader that goes away is no crash', async (t) => {
  const place = await Place.make(t)
  const user = await place.host('one')
  const child = user.start('--help')
  child.stdout?.destroy()
  let stderr = ''
  child.stderr?.setEncoding('utf8').on('data', (text: string) => (stderr += text))
  await new Promise((resolve) => child.once('close', resolve))
  assert.doesNotMatch(stderr, /EPIPE|at /)
})

test('what cannot be written to its end is no success', async (t) => {
  const place = await Place.make(t)
  const user = await place.host('one')
  await place.write('files/a', 'a')
  await user.ok('add', place.path('files'), '--name', 'files')
  await user.ok('suspend', 'files')
  for (const args of [['show', 'files'], ['log', 'files', '--json'], ['ls']]) {
    const { command, env } = user.command(...args)
    const ran = spawnSync('sh', ['-c', '"$@" >/dev/full', 'sh', ...command], {
      env,
      encoding: 'utf8'
    })
    assert.equal(ran.status, 14, args.join(' '))
    assert.match(ran.stderr, /^hyperparcel: cannot write what there is to say: .*full.*\n$/)
  }
})

test('every verb has help with an example', async (t) => {
  const place = await Place.make(t)
  const user = place.user('one')
  const [, verbs = ''] = /\nCommands:\n(.*?)\n\n/s.exec(await user.ok('--help')) ?? []
  const names = [...verbs.matchAll(/^ {2}([a-z]+) /gm)].flatMap(([, name]) => name ?? [])
  assert.ok(names.length > 40, names.join())
  for (const name of names) {
    if (name === 'help') continue
    assert.match(await user.ok(name, '--help'), /\nExamples?:\s+hyperparcel /, name)
  }
})
