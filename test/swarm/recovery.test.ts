import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { raw } from 'compact-encoding'
import { createHome, type Host, phraseOf, seedFrom } from '../../lib/index.js'
import DHT from 'hyperdht'
import Hyperswarm from 'hyperswarm'
import Protomux from 'protomux'
import { RecoverySearch } from '../../lib/swarm/recovery.js'
import { Identity } from '../../lib/keys/identity.js'
import { parseBootstrap } from '../../lib/swarm/dht.js'
import { eventually, TestHosts } from '../support/hosts.js'
import { onEnd } from '../support/on-end.js'

test('24 words bring an owner back, and all its parcels, from a vault alone', async (t) => {
  const hosts = await TestHosts.start(t)
  const owner = await hosts.create('owner')
  const vault = await hosts.create('vault')
  const contents = new Map<string, string>()
  for (const name of ['letters', 'photos']) {
    const folder = join(hosts.dir, name)
    await mkdir(folder)
    contents.set(name, randomBytes(5_000).toString('hex'))
    await writeFile(join(folder, 'file'), contents.get(name) ?? '')
    await owner.add(folder, { name, vm: 'folder' })
    await vault.join((await owner.invite(name, { role: 'vault' })).invite)
    // The keys of now are others than those which it had when it said how to come back.
    for (let n = 0; n < 3; n++) await owner.rotate(name)
    await owner.suspend(name)
  }
  await eventually(async () => {
    const kept = await vault.list()
    const isWhole = kept.every(({ blocks }) => blocks.total > 0 && blocks.here === blocks.total)
    const [letters] = (await owner.status('letters')).heads
    return (isWhole && letters !== undefined && kept.length === 2) || null
  }, 'the vault has all')
  const total = async (host: Host): Promise<number[]> =>
    (await host.list()).map(({ blocks }) => blocks.total)
  const before = await total(vault)
  await eventually(async () => {
    const now = await total(vault)
    return now.every((count, n) => count === before[n]) || null
  }, 'nothing more comes')
  const phrase = phraseOf(owner.home.identity.seed)
  const { id } = owner
  await hosts.stop('owner')
  await rm(hosts.home('owner'), { recursive: true })

  await createHome(hosts.home('back'), 'back', seedFrom(phrase))
  const back = await hosts.open('back')
  assert.equal(back.id, id)
  await back.recover()
  await eventually(async () => ((await back.list()).length === 2 ? true : null), 'both parcels')
  for (const [name, text] of contents) {
    const to = join(hosts.dir, 'to', name)
    await mkdir(join(hosts.dir, 'to'), { recursive: true })
    await back.resume(name, { to })
    assert.equal(await readFile(join(to, 'file'), 'utf8'), text)
    assert.equal((await back.status(name)).role, 'owner')
    // It is a member as before: it invites, writes, and the vault takes that.
    await writeFile(join(to, 'more'), 'more')
    await back.suspend(name)
    const { problems, versions } = await back.status(name)
    assert.deepEqual({ problems, versions }, { problems: [], versions: 2 })
  }
  // What it takes off itself then does not come back by itself.
  await back.remove('photos', { force: true })
  await hosts.stop('back')
  const once = await hosts.open('back')
  await once.recover()
  assert.deepEqual(
    (await once.list()).map(({ name }) => name),
    ['letters']
  )
  const reader = await hosts.create('reader')
  await reader.join((await once.invite('letters', { role: 'reader' })).invite)
  await eventually(async () => {
    const { heads } = await reader.status('letters')
    return heads[0]?.isHere === true || null
  }, 'a newcomer has what the restored owner made')
})

test('a host that is restored is told nothing of what it was shut out of, and strangers nothing at all', async (t) => {
  const hosts = await TestHosts.start(t)
  const owner = await hosts.create('owner')
  const folder = join(hosts.dir, 'folder')
  await mkdir(folder)
  await writeFile(join(folder, 'file'), 'text')
  await owner.add(folder, { name: 'work', vm: 'folder' })
  const laptop = await hosts.create('laptop')
  await laptop.join((await owner.invite('work')).invite)
  await owner.suspend('work')
  await eventually(async () => (await laptop.status('work')).heads[0]?.isHere || null, 'a version')
  const phrase = phraseOf(laptop.home.identity.seed)
  await owner.revoke('work', 'laptop')
  await hosts.stop('laptop')
  await createHome(hosts.home('thief'), 'thief', seedFrom(phrase))
  const thief = await hosts.open('thief')
  await assert.rejects(Promise.resolve(thief.recover({ timeout: 3_000 })), { code: 'UNREACHABLE' })
  assert.deepEqual(await thief.list(), [])
  // A stranger finds the place, as somebody who watches the DHT does.
  const stranger = Identity.create()
  const answers: unknown[] = []
  const lurker = Object.create(stranger, {
    recoveryTopic: { value: laptop.home.identity.recoveryTopic }
  })
  const search = new RecoverySearch(lurker, parseBootstrap(hosts.dht.address), (answer) =>
    answers.push(answer)
  )
  onEnd(t, () => search.close())
  await new Promise((resolve) => setTimeout(resolve, 2_000))
  assert.deepEqual(answers, [])
})

test('a member whose connection is cut before it has said all is asked again, one that has is not', async (t) => {
  const hosts = await TestHosts.start(t)
  const bootstrap = parseBootstrap(hosts.dht.address)
  const lost = Identity.create()
  const { keyPair } = Identity.create()
  const member = new Hyperswarm({ keyPair, dht: new DHT({ bootstrap, host: '127.0.0.1' }) })
  onEnd(t, () => member.destroy())
  const asked: string[] = []
  member.on('connection', (connection) => {
    connection.on('error', () => {})
    const mux = Protomux.from(connection)
    mux.pair({ protocol: 'hyperparcel/recovery' }, () => {
      const isFirst = asked.length === 0
      asked.push(isFirst ? 'cut' : 'answered')
      if (isFirst) {
        connection.destroy()
        return
      }
      const channel = mux.createChannel({
        protocol: 'hyperparcel/recovery',
        handshake: raw,
        messages: [],
        onopen: () => {},
        onclose: () => {}
      })
      channel?.open(Buffer.alloc(0))
      channel?.close()
    })
  })
  await member.join(lost.recoveryTopic, { server: true, client: false }).flushed()
  const search = new RecoverySearch(lost, bootstrap, () => {})
  onEnd(t, () => search.close())
  await eventually(() => search.heard || null, 'an answer')
  assert.deepEqual(asked, ['cut', 'answered'])
})
