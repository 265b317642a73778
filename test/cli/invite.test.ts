import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { mkdir, readFile } from 'node:fs/promises'
import { test, type TestContext } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import Hyperswarm from 'hyperswarm'
import { homeDir, openHome } from '../../lib/index.js'
import { keyPairFrom, randomBytes } from '../../lib/keys/identity.js'
import { Keyring } from '../../lib/keys/keyring.js'
import { epochKeysOf, loadStates } from '../../lib/parcel/local-state.js'
import { createNode, parseBootstrap } from '../../lib/swarm/dht.js'
import { finish } from '../support/cli.js'
import { eventually } from '../support/hosts.js'
import { onEnd } from '../support/on-end.js'
import { missing } from '../support/programs.js'
import { failure, Place, type User } from './place.js'

const TERMINAL = { skip: missing(['script']) }

/** A host with one version of the folder parcel "files". */
async function inviter(t: TestContext): Promise<{ place: Place; laptop: User }> {
  const place = await Place.make(t)
  const laptop = await place.host('laptop')
  await place.write('files/a', 'shared')
  await laptop.ok('add', place.path('files'), '--name', 'files')
  await laptop.ok('suspend', 'files')
  return { place, laptop }
}

async function invite(user: User, ...args: string[]): Promise<string> {
  return String((await user.result('invite', 'files', ...args))['invite'])
}

test('an invite lets one host in: again for the same, not for another, and its parcel resumes', async (t) => {
  const { place, laptop } = await inviter(t)
  const text = await invite(laptop)
  const [desk, thief] = await Promise.all([place.host('desk'), place.host('thief')])
  assert.equal((await desk.result('join', text))['name'], 'files')
  assert.equal((await desk.result('join', text))['name'], 'files', 'again')
  assert.match(await thief.fails(12, 'join', text), /used by another host/)
  await desk.ok('resume', 'files', '--to', place.path('there'))
  assert.equal(await readFile(place.path('there/a'), 'utf8'), 'shared')
  // A host that nobody let in: neither its command line …
  await thief.fails(1, 'resume', 'files')
  assert.match(await thief.ok('ls', '--json'), /no parcels/)
  // … nor anyone who knows where the members meet gets as far as a connection.
  const home = await openHome(homeDir(laptop.home))
  const [state] = await loadStates(`${laptop.home}/parcels`, home.identity.atRest)
  assert.ok(state)
  const topic = new Keyring(Buffer.from(state.parcel, 'hex'), epochKeysOf(state)).topic()
  const dht = createNode(parseBootstrap(place.bootstrap))
  const swarm = new Hyperswarm({ keyPair: keyPairFrom(randomBytes(32)), dht })
  onEnd(t, () => swarm.destroy())
  let connections = 0
  swarm.on('connection', (connection) => {
    connections++
    connection.on('error', () => {})
  })
  swarm.joinPeer(home.identity.publicKey)
  await swarm.join(topic, { client: true, server: true }).flushed()
  await sleep(1_000)
  assert.equal(connections, 0)
})

/** The invite verb on a terminal of its own; what it says goes to `said`. */
function onTerminal(
  t: TestContext,
  user: User,
  ...args: string[]
): {
  type: (text: string) => void
  said: (what: RegExp) => Promise<string>
  exit: Promise<number>
} {
  const { command, env } = user.command(...args)
  const quoted = command.map((word) => `'${word}'`).join(' ')
  const child = spawn('script', ['-qec', quoted, '/dev/null'], {
    env,
    stdio: ['pipe', 'pipe', 'inherit']
  })
  onEnd(t, () => child.kill())
  let text = ''
  child.stdout.setEncoding('utf8').on('data', (part: string) => (text += part))
  const exit = new Promise<number>((resolve) => child.once('exit', (code) => resolve(code ?? -1)))
  const said = (what: RegExp): Promise<string> =>
    eventually(async () => what.exec(text)?.[0] ?? null, String(what))
  return { type: (line) => child.stdin.write(line), said, exit }
}

test('on a terminal the inviter sees who comes, and decides', TERMINAL, async (t) => {
  const { place, laptop } = await inviter(t)
  const desk = await place.host('desk')
  const { words } = await desk.result('id')
  for (const answer of ['n', 'y']) {
    const terminal = onTerminal(t, laptop, 'invite', 'files', '--role', 'reader')
    const code = await terminal.said(/\d+-[a-z]+-[a-z]+/)
    await terminal.said(/waiting for the other host/)
    const join = desk.start('join')
    join.stdin?.end(`${code}\n`)
    const joined = finish(join)
    await terminal.said(/"desk" wants to join/)
    await terminal.said(new RegExp(String(words)))
    terminal.type(`${answer}\n`)
    if (answer === 'y') assert.equal((await joined).code, 0)
    else assert.match(failure(await joined, 12, 'join'), /refused/)
    assert.equal(await terminal.exit, answer === 'y' ? 0 : 12)
  }
  const { members } = await laptop.result('status', 'files')
  assert.match(JSON.stringify(members), /"desk","role":"reader"/)
})

test('roles, members, revocation and rotation by the command line', async (t) => {
  const { place, laptop } = await inviter(t)
  const desk = await place.host('desk')
  const {
    code,
    invite: link,
    role
  } = await laptop.result('invite', 'files', '--role', 'runner', '--yes')
  assert.match(String(code), /^\d+-[a-z]+-[a-z]+$/)
  assert.match(String(link), /^hyperparcel2\./)
  assert.equal(role, 'runner')
  await desk.ok('join', String(code))
  // A new member says its name itself, over a connection that comes after the join.
  const both = /owner .* laptop {2}this host\n(.*\n)*runner .* desk {2}/
  await eventually(
    async () => both.exec(await laptop.ok('members', 'files')),
    'both are there by name'
  )
  assert.match(await desk.fails(12, 'revoke', 'files', 'laptop'), /only an owner/)
  assert.match(await desk.fails(12, 'invite', 'files'), /only an owner/)
  assert.match(await laptop.ok('rotate', 'files'), /key epoch 1/)
  assert.match(await laptop.fails(2, 'revoke', 'files', 'nobody'), /no member "nobody"/)
  assert.match(await laptop.ok('revoke', 'files', 'desk'), /desk is shut out; key epoch 2/)
  assert.match(await laptop.ok('members', 'files'), /revoked .* desk, .* by laptop; was runner/)
  await desk.ok('resume', 'files', '--to', place.path('there'))
  const told = async (): Promise<boolean | null> =>
    JSON.stringify((await desk.result('status', 'files'))['revoked']).includes('desk') || null
  await eventually(told, 'it has been told')
  await desk.fails(13, 'suspend', 'files')
  assert.equal(await readFile(place.path('there/a'), 'utf8'), 'shared')
})

test('a malformed or cut invite is exit 2 at once', async (t) => {
  const { place, laptop } = await inviter(t)
  const text = await invite(laptop)
  const desk = await place.host('desk')
  for (const bad of [
    text.slice(0, -1),
    text.slice(1),
    `${text}y`,
    text.slice(0, 20),
    '🙂',
    'x'.repeat(5_000)
  ]) {
    await desk.fails(2, 'join', bad)
  }
  const child = desk.start('join', '-')
  child.stdin?.end()
  failure(await finish(child), 2, 'join -')
})

test('one wrong letter in an invite is exit 2 at once, not a wait for nobody', async (t) => {
  const { place, laptop } = await inviter(t)
  const text = await invite(laptop)
  const desk = await place.host('desk')
  await desk.ok('ls')
  const middle = Math.floor(text.length / 2)
  const wrong = text.slice(0, middle) + (text[middle] === 'y' ? 'b' : 'y') + text.slice(middle + 1)
  const child = desk.start('join', wrong)
  const timer = setTimeout(() => child.kill('SIGINT'), 2_000)
  onEnd(t, () => clearTimeout(timer))
  failure(await finish(child), 2, 'join')
})

test('an expired invite is exit 12', async (t) => {
  const { place, laptop } = await inviter(t)
  const text = await invite(laptop, '--for', '0.02')
  const desk = await place.host('desk')
  await sleep(2_300)
  assert.match(await desk.fails(12, 'join', text), /expired/)
})

test('a name that is taken: refused when asked for, made free when not', async (t) => {
  const { place, laptop } = await inviter(t)
  const desk = await place.host('desk')
  await mkdir(place.path('own'))
  await desk.ok('add', place.path('own'), '--name', 'files')
  const text = await invite(laptop)
  assert.match(await desk.fails(1, 'join', text, '--name', 'files'), /choose another name/)
  await desk.fails(2, 'join', text, '--name', '../../etc')
  assert.equal((await desk.result('join', text))['name'], 'files-2')
  assert.equal((await desk.result('join', text))['name'], 'files-2')
})

test('white space around an invite does no harm', async (t) => {
  const { place, laptop } = await inviter(t)
  const text = await invite(laptop)
  const desk = await place.host('desk')
  const child = desk.start('join', '-', '--name', 'mine', '--json')
  child.stdin?.end(`\n  ${text}\r\n\n`)
  const { code, stdout } = await finish(child)
  assert.equal(code, 0, stdout)
})

test('an inviter that is gone: Ctrl-C ends the wait with exit 130', async (t) => {
  const { place, laptop } = await inviter(t)
  const text = await invite(laptop)
  await laptop.killDaemon()
  const desk = await place.host('desk')
  await desk.ok('ls')
  const child = desk.start('join', text)
  const ended = finish(child)
  await sleep(1_500)
  assert.equal(child.exitCode, null)
  child.kill('SIGINT')
  assert.match(failure(await ended, 130, 'join'), /interrupted/)
  await desk.ok('ls')
})

test('members and where versions are show in status on both sides', async (t) => {
  const { place, laptop } = await inviter(t)
  const text = await invite(laptop)
  const desk = await place.host('desk')
  await desk.ok('join', text)
  await desk.ok('resume', 'files', '--to', place.path('there'))
  await place.write('there/a', 'from desk')
  await desk.ok('suspend', 'files')
  await laptop.ok('resume', 'files')
  assert.equal(await readFile(place.path('files/a'), 'utf8'), 'from desk')
  for (const [user, other] of [
    [laptop, 'desk'],
    [desk, 'laptop']
  ] as const) {
    const { members, problems } = await user.result('status', 'files')
    assert.match(JSON.stringify(members), new RegExp(`"${other}"`))
    assert.deepEqual(problems, [])
  }
  // Both off the net, then both go on: that is a conflict, and it is told as one.
  await laptop.killDaemon()
  await place.write('there/a', 'desk alone')
  await desk.ok('suspend', 'files')
  await desk.killDaemon()
  await place.write('files/a', 'laptop alone')
  await laptop.ok('suspend', 'files')
  await desk.ok('ls')
  await laptop.fails(4, 'resume', 'files')
})

test('a version that nobody in reach has is exit 6 within the timeout', async (t) => {
  const { place, laptop } = await inviter(t)
  const desk = await place.host('desk')
  await desk.ok('join', await invite(laptop), '--name', 'theirs')
  await laptop.killDaemon()
  await desk.killDaemon()
  const started = performance.now()
  const ran = await desk.run('resume', 'theirs', '--timeout', '1', '--to', place.path('there'))
  // It may all have come with the join; what must not happen is anything in between.
  if (ran.code === 0) assert.equal(await readFile(place.path('there/a'), 'utf8'), 'shared')
  else failure(ran, 6, 'resume')
  assert.ok(performance.now() - started < 20_000)
})
