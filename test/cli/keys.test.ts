import assert from 'node:assert/strict'
import { readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { finish, type Ran } from '../support/cli.js'
import { eventually } from '../support/hosts.js'
import { missing } from '../support/programs.js'
import { failure, Place, type User } from './place.js'

/** Runs with these lines on standard input. */
async function typed(user: User, lines: string[], ...args: string[]): Promise<Ran> {
  const child = user.start(...args)
  child.stdin?.end(lines.map((line) => `${line}\n`).join(''))
  return finish(child)
}

test('a host under a passphrase: nothing starts without it, and nobody else can read it', async (t) => {
  const place = await Place.make(t)
  const user = await place.host('laptop')
  failure(await typed(user, ['short'], 'passphrase'), 2, 'too short a passphrase')
  failure(await typed(user, [], 'passphrase'), 2, 'no passphrase')
  failure(await typed(user, [], 'passphrase', '--remove', '--keychain'), 2, 'two locks')
  assert.equal((await typed(user, ['correct horse'], 'passphrase')).code, 0)
  assert.match((await user.ok('id')).trimEnd(), /under a passphrase$/)

  assert.match(failure(await user.run('ls'), 12, 'no passphrase'), /HYPERPARCEL_PASSPHRASE/)
  const wrong = user.with({ HYPERPARCEL_PASSPHRASE: 'wrong horse' })
  assert.match(failure(await wrong.run('ls'), 12, 'a wrong passphrase'), /not the passphrase/)
  const right = user.with({ HYPERPARCEL_PASSPHRASE: 'correct horse' })
  await right.ok('ls')
  // The daemon has it now; its environment, which others of this user can read, has not.
  await user.ok('ls')
  const environment = await readFile(`/proc/${await user.daemonPid()}/environ`, 'utf8')
  assert.doesNotMatch(environment, /correct horse/)
  await user.ok('daemon', 'stop')

  failure(await user.run('phrase'), 2, 'words without the passphrase')
  failure(await typed(user, ['wrong horse'], 'passphrase', '--remove'), 12, 'a wrong one')
  const { code, stdout } = await typed(user, ['correct horse'], 'phrase', '--json')
  assert.equal(code, 0)
  assert.equal(JSON.parse(stdout).phrase.split(' ').length, 24)
  assert.equal((await typed(user, ['correct horse'], 'passphrase', '--remove')).code, 0)
  await user.ok('ls')
})

test(
  'the keychain of a desktop session keeps what opens a host',
  { skip: missing(['dbus-run-session', 'gnome-keyring-daemon']) },
  async (t) => {
    const place = await Place.make(t)
    const user = await place.host('desk')
    const session = place.user('desk', {
      env: { HOME: place.dir, XDG_DATA_HOME: place.path('data'), XDG_RUNTIME_DIR: place.dir },
      by: [
        'dbus-run-session',
        '--',
        'sh',
        '-c',
        'printf secret | gnome-keyring-daemon --unlock --components=secrets >/dev/null 2>&1 && exec "$@"',
        'sh'
      ]
    })
    assert.match(await session.ok('passphrase', '--keychain'), /keychain/)
    assert.match((await user.ok('id')).trimEnd(), /in the keychain$/)
    await session.ok('ls')
    await user.ok('daemon', 'stop')
    // The words bring back what no keychain here can open.
    const outside = user.with({ DBUS_SESSION_BUS_ADDRESS: 'unix:path=/nowhere' })
    assert.match(failure(await outside.run('ls'), 12, 'no session'), /keychain/)
  }
)

test('24 words bring a host and its parcels to a new machine', async (t) => {
  const place = await Place.make(t)
  const [desk, laptop] = [await place.host('desk'), await place.host('laptop')]
  await place.write('work/file', 'what matters')
  await laptop.ok('add', place.path('work'), '--name', 'work', '--vm', 'folder')
  await laptop.ok('suspend', 'work')
  const { invite } = await laptop.result('invite', 'work')
  await desk.ok('join', String(invite))
  await eventually(async () => {
    const { heads } = JSON.parse(await desk.ok('status', 'work', '--json'))
    return heads[0]?.isHere === true || null
  }, 'the version')
  const { phrase } = await laptop.result('phrase')
  const { id } = await laptop.result('id')
  await laptop.ok('daemon', 'stop')
  await rm(laptop.home, { recursive: true })

  const again = place.user('again')
  failure(await typed(again, [`${String(phrase)} more`], 'init', '--phrase'), 12, '25 words')
  failure(
    await typed(again, [String(phrase).replace(/^\w+/, 'zoo')], 'init', '--phrase'),
    12,
    'a wrong word'
  )
  const { code, stdout, stderr } = await typed(
    again,
    [String(phrase)],
    'init',
    '--name',
    'again',
    '--phrase'
  )
  assert.equal(code, 0, stderr)
  assert.match(stdout, /work is back/)
  assert.equal((await again.result('id'))['id'], id)
  await again.ok('resume', 'work', '--to', place.path('back'))
  assert.equal(await readFile(join(place.path('back'), 'file'), 'utf8'), 'what matters')
})

test('24 words with nobody in reach: the host is there, and says what to do', async (t) => {
  const place = await Place.make(t)
  const old = await place.host('old')
  const { phrase } = await old.result('phrase')
  const user = place.user('new')
  const ran = await typed(user, [String(phrase)], 'init', '--phrase', '--timeout', '1')
  assert.match(failure(ran, 6, 'nobody'), /bring one online/)
  await user.ok('ls')
})
