import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { chmod, readdir, readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { openHome } from '../../lib/index.js'
import { keyPairFrom } from '../../lib/keys/identity.js'
import { loadStates } from '../../lib/parcel/local-state.js'
import { eventually } from '../support/hosts.js'
import { Place, processesOf, type User } from './place.js'

/** A secret in every way that one might have written it. */
function forms(bytes: Buffer): Buffer[] {
  const reversed = Buffer.from(bytes.toReversed())
  const texts = [bytes, reversed].flatMap((one) => [
    one.toString('hex'),
    one.toString('hex').toUpperCase(),
    one.toString('base64').replace(/=+$/, ''),
    one.toString('base64url')
  ])
  // base64 of a longer text that begins one or two bytes before.
  const shifted = [1, 2].map((n) =>
    Buffer.concat([Buffer.alloc(n), bytes])
      .toString('base64')
      .slice(4, -4)
  )
  const hex = bytes.toString('hex')
  return [
    bytes,
    reversed,
    ...[...texts, ...shifted, hex.split('').toReversed().join('')].map((text) => Buffer.from(text))
  ]
}

/** Which of the secrets stand in which files of a home. */
async function leaks(home: string, secrets: Map<string, Buffer>): Promise<string[]> {
  const needles = [...secrets].map(([name, bytes]) => ({ name, all: forms(bytes) }))
  const found: string[] = []
  for (const path of await readdir(home, { recursive: true })) {
    if (!(await stat(join(home, path))).isFile()) continue
    const bytes = await readFile(join(home, path))
    for (const { name, all } of needles) {
      if (all.some((needle) => bytes.includes(needle))) found.push(`${name} in ${path}`)
    }
  }
  return found
}

async function secretsOf(user: User): Promise<Map<string, Buffer>> {
  const { identity } = await openHome(user.home)
  const exported = identity.export()
  const secrets = new Map([
    ['identity seed', exported.subarray(0, 32)],
    ['identity secret key', identity.keyPair.secretKey.subarray(0, 32)],
    ['at-rest key', identity.atRest],
    ['index key', identity.index]
  ])
  for (const state of await loadStates(join(user.home, 'parcels'), identity.atRest)) {
    for (const { epochKey, controlKey } of state.epochs) {
      secrets.set('control key', Buffer.from(controlKey, 'hex'))
      if (epochKey !== null) secrets.set('epoch key', Buffer.from(epochKey, 'hex'))
    }
    for (const kind of ['control', 'meta', 'data'] as const) {
      const seed = Buffer.from(state.incarnation?.[kind] ?? '', 'hex')
      assert.equal(seed.byteLength, 32)
      secrets.set(`${kind} seed of ${state.name}`, seed)
      secrets.set(
        `${kind} secret key of ${state.name}`,
        keyPairFrom(seed).secretKey.subarray(0, 32)
      )
    }
  }
  return secrets
}

test('no secret and no plaintext stands in a home, but for the identity in its file', async (t) => {
  const place = await Place.make(t)
  const user = await place.host('one')
  const desk = await place.host('desk')
  const marker = randomBytes(48)
  const words = Buffer.from('The quick brown marker jumps over the lazy store')
  await place.write('files/secret-file-name.txt', Buffer.concat([words, Buffer.alloc(300), marker]))
  await place.write('files/secret-folder-name/tiny', marker)
  await place.write(
    'vm/disk.img',
    Buffer.concat([Buffer.alloc(512 * 9), marker, words, Buffer.alloc(512 * 20 - 96)])
  )
  await user.ok('add', place.path('files'), '--name', 'files')
  await user.ok('add', place.path('vm'), '--name', 'vm', '--vm', 'v86')
  await user.ok('suspend', 'files', '-m', 'a-secret-message')
  await user.ok('suspend', 'files', '--no-compress')
  await user.ok('run', 'vm')
  await eventually(
    async () =>
      (await readFile(place.path('vm/console.log'), 'latin1').catch(() => '')).includes('count 2')
        ? true
        : null,
    'a guest that runs'
  )
  await user.ok('suspend', 'vm')
  const text = String((await user.result('invite', 'files'))['invite'])
  await desk.ok('join', text)
  await desk.ok('resume', 'files', '--to', place.path('there'))
  const invite = Buffer.from(text.split('.')[1] ?? '', 'base64url')
  for (const one of [user, desk]) {
    const secrets = await secretsOf(one)
    secrets.set('contents', marker)
    secrets.set('words', words)
    secrets.set('file name', Buffer.from('secret-file-name'))
    secrets.set('folder name', Buffer.from('secret-folder-name'))
    secrets.set('message', Buffer.from('a-secret-message'))
    secrets.set('console', Buffer.from('count 1\r\ncount 2\r\n'))
    secrets.set('invite', invite.subarray(-40))
    const mine = ['identity seed', 'identity secret key', 'at-rest key', 'index key']
    const allowed = new Set(mine.map((name) => `${name} in identity.key`))
    for (const state of ['running', 'stopped']) {
      const found = await leaks(one.home, secrets)
      assert.deepEqual(
        found.filter((each) => !allowed.has(each)),
        [],
        state
      )
      assert.ok(found.includes('identity seed in identity.key'), 'the search finds nothing at all')
      await one.ok('daemon', 'stop')
    }
  }
})

test('neither the environment nor the command line of a process has a secret', async (t) => {
  const place = await Place.make(t)
  const user = await place.host('one')
  await place.write('vm/x', '')
  await user.ok('add', place.path('vm'), '--name', 'vm', '--vm', 'v86')
  await user.ok('run', 'vm')
  const secrets = await secretsOf(user)
  for (const pid of await processesOf(user.home)) {
    for (const file of ['cmdline', 'environ']) {
      const bytes = await readFile(`/proc/${pid}/${file}`)
      for (const [name, secret] of secrets) {
        assert.ok(!forms(secret).some((form) => bytes.includes(form)), `${name} in ${file}`)
      }
    }
  }
})

test('what a suspend and a resume write is for this user alone', async (t) => {
  const place = await Place.make(t)
  const user = await place.host('one')
  await place.write('vm/x', '')
  await user.ok('add', place.path('vm'), '--name', 'vm', '--vm', 'v86')
  await user.ok('run', 'vm')
  for (const name of ['console.log', 'state']) {
    const path = place.path('vm', name)
    await eventually(
      () =>
        stat(path).then(
          () => true,
          () => (name === 'state' ? true : null)
        ),
      name
    )
  }
  assert.equal((await stat(place.path('vm/console.log'))).mode & 0o077, 0)
  const names = await readdir(join(user.home, 'run'), { recursive: true })
  for (const name of names) {
    assert.equal((await stat(join(user.home, 'run', name))).mode & 0o077, 0, name)
  }
  await chmod(place.path('vm'), 0o755)
  const version = await user.result('suspend', 'vm')
  await user.ok('resume', 'vm', '--no-start', '--version', String(version['id']))
  for (const name of await readdir(place.path('vm/state'))) {
    assert.equal((await stat(place.path('vm/state', name))).mode & 0o077, 0, name)
  }
})
