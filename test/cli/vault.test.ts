import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { mkdir, readdir, readFile, rename, rm, stat, symlink } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { chunkId } from '../../lib/chunk/id.js'
import type { ParcelInfo } from '../../lib/index.js'
import { eventually } from '../support/hosts.js'
import { inMemory, Needles } from '../support/memory.js'
import { NO_MOUNT, smallDisk } from '../support/small-disk.js'
import { randomFile } from './blob.js'
import { gone, isRoot, objects, Place, type User } from './place.js'

const FILES = 1_000
/** A file of a store may hold something that counts beside what does not, and there are a few. */
const FILE = 48 << 20

async function statusOf(user: User, name: string): Promise<ParcelInfo> {
  const info: ParcelInfo = JSON.parse(await user.ok('status', name, '--json'))
  return info
}

/** Which of the needles stand in any file of a folder. */
async function onDisk(dir: string, needles: Needles): Promise<Set<string>> {
  const found = new Set<string>()
  for (const name of await readdir(dir, { recursive: true })) {
    const path = join(dir, name)
    if (!(await stat(path)).isFile()) continue
    for (const hit of needles.in(await readFile(path))) found.add(hit)
  }
  return found
}

/** Text as the engine may keep it: a byte or two a character; ids also as hex. */
function needlesOf(texts: readonly string[], ids: readonly Buffer[]): Needles {
  const needles = new Map<string, Buffer>()
  for (const text of texts) {
    needles.set(`${text} (latin1)`, Buffer.from(text, 'latin1'))
    needles.set(`${text} (utf-16)`, Buffer.from(text, 'utf16le'))
  }
  for (const id of ids) {
    needles.set(`id ${id.toString('hex')}`, id)
    needles.set(`id ${id.toString('hex')} (hex)`, Buffer.from(id.toString('hex')))
  }
  return new Needles(needles)
}

test(
  'a vault: on its disk and in its memory is no text, no name and no chunk id; all comes back from it',
  { skip: !isRoot && 'needs root to look into the memory of processes' },
  async (t) => {
    const place = await Place.make(t)
    const [owner, vault, late] = [
      await place.host('owner'),
      await place.host('box'),
      await place.host('late')
    ]
    const texts: string[] = []
    const ids: Buffer[] = []
    await mkdir(place.path('diary'))
    for (let n = 0; n < FILES; n++) {
      const [text, name] = [randomBytes(12).toString('hex'), randomBytes(10).toString('hex')]
      const contents = `${text} `.repeat(1 + (n % 40))
      texts.push(text, name)
      ids.push(chunkId(Buffer.from(contents)))
      await place.write(join('diary', name), contents)
    }
    const needles = needlesOf([...texts, 'my-diary-parcel'], ids)
    await owner.ok('add', place.path('diary'), '--name', 'my-diary-parcel', '--vm', 'folder')
    const asked = await owner.result('vault', 'invite', 'my-diary-parcel')
    const [kept] = objects(
      await vault.ok('vault', String(asked['invite']), '--quota', '1G', '--json')
    )
    const name = String(kept?.['name'])
    assert.equal(kept?.['role'] ?? 'vault', 'vault')
    // It knows who the vault is from what came with the invite alone.
    const { invite } = await owner.result('invite', 'my-diary-parcel', '--role', 'reader')
    await late.ok('join', String(invite))
    await late.ok('daemon', 'stop')
    await owner.ok('suspend', 'my-diary-parcel')
    await eventually(async () => {
      const { blocks, members } = await statusOf(vault, name)
      const ours = await statusOf(owner, 'my-diary-parcel')
      const isWhole = blocks.here === blocks.total && blocks.total > ours.blocks.total
      return (isWhole && members.length === 3) || null
    }, 'the vault has all')
    // That the search finds what is there: who can read it has it in memory.
    const control = await inMemory(await owner.daemonPid(), needles)
    assert.ok(control.found.size > FILES, `${control.found.size} found in the owner's memory`)
    await owner.ok('daemon', 'stop')

    const { found, bytes } = await inMemory(await vault.daemonPid(), needles)
    t.diagnostic(
      `${Math.round(bytes / 1e6)} MB of memory searched for ${texts.length + ids.length}`
    )
    assert.deepEqual([...found], [])
    assert.deepEqual([...(await onDisk(vault.home, needles))], [])
    assert.match(await vault.ok('vault'), /keeps 1 parcels for others: .* of 1\.07 GB/)

    await late.ok('resume', 'my-diary-parcel', '--to', place.path('copy'))
    for (const file of await readdir(place.path('diary'))) {
      const [a, b] = [place.path('diary', file), place.path('copy', file)]
      assert.deepEqual(await readFile(b), await readFile(a))
    }
  }
)

test('a vault in the place of one that is open ends the daemon, and is not written to', async (t) => {
  const place = await Place.make(t)
  const user = await place.host('desk')
  await place.write('work/file', 'what matters')
  await user.ok('add', place.path('work'), '--name', 'work')
  await user.ok('suspend', 'work')
  const [stick, second] = [place.path('stick'), place.path('second')]
  await user.ok('vault', second)
  await user.ok('vault', second, '--close')
  const store = await filesOf(second)
  await user.ok('vault', stick)
  const pid = await user.daemonPid()
  await rename(stick, `${stick}.away`)
  await rename(second, stick)
  await gone(pid)
  assert.deepEqual(await filesOf(stick), store)
  await eventually(async () => {
    const here = objects(await user.ok('vault', '--json')).find(({ path }) => path === stick)
    return String(here?.['problem']).includes('is not the vault that was there') || null
  }, 'the other vault is refused')
  assert.deepEqual(await filesOf(stick), store)
  await rename(stick, second)
  await rename(`${stick}.away`, stick)
  assert.match(await user.ok('vault', stick), /has all of work/)
  assert.match(await user.ok('vault', second), /has all of work/)
})

/** Names and lengths of all files below a folder. */
async function filesOf(dir: string): Promise<string[]> {
  const names = await readdir(dir, { recursive: true })
  const sizes = names.map(async (name) => `${name} ${(await stat(join(dir, name))).size}`)
  return (await Promise.all(sizes)).toSorted()
}

test('a folder as a vault, by the command line', async (t) => {
  const place = await Place.make(t)
  const user = await place.host('desk')
  await place.write('work/file', 'what matters')
  await user.ok('add', place.path('work'), '--name', 'work', '--vm', 'folder')
  await user.ok('suspend', 'work')
  const stick = place.path('stick')
  assert.match(await user.ok('vault', stick, '--quota', '2G'), /has all of work, .* of 2\.15 GB/)
  assert.doesNotMatch(await user.ok('vault', stick, '--quota', 'none'), /of 2\.15 GB/)
  await user.ok('vault', '--quota', 'none')
  assert.match(await user.ok('vault', stick, '--quota', '2G'), /of 2\.15 GB/)
  assert.match(await user.ok('vault'), /has all of work/)
  const members = objects(await user.ok('members', 'work', '--json'))
  const roles = members.flatMap(({ type, role }) => (type === 'member' ? [role] : []))
  assert.deepEqual(roles.toSorted(), ['owner', 'vault'])
  // A daemon that starts again opens it by itself.
  await user.ok('daemon', 'stop')
  await eventually(async () => {
    const [vault] = objects(await user.ok('vault', '--json'))
    return vault?.['state'] === 'open' || null
  }, 'it is open')
  assert.match(await user.ok('vault', stick, '--close'), /can be taken away/)
  assert.match(await user.ok('vault', stick), /has all of work/)

  await place.write('file', '')
  await user.fails(1, 'vault', place.path('file'))
  assert.equal((await user.run('vault', stick, '--quota', 'much')).code, 2)
  await user.fails(2, 'vault', stick, '--close', '--forget')
  await user.fails(2, 'vault', place.path('nothing'), '--close')
  await user.fails(2, 'vault', 'invite')
  await user.fails(2, 'vault', user.home)
  await user.fails(4, 'vault', place.path('work'))
  await user.fails(1, 'vault', place.path('new'), 'unknown')
  assert.deepEqual(await readdir(place.path('new')), [])

  const other = await place.host('other')
  const { invite } = await user.result('invite', 'work')
  assert.match(await other.fails(12, 'vault', String(invite)), /vault invite/)
  assert.deepEqual(
    objects(await other.ok('ls', '--json')).filter(({ type }) => type === 'parcel'),
    []
  )

  await user.ok('vault', stick, '--forget')
  const [left] = objects(await user.ok('vault', '--json'))
  assert.notEqual(left?.['type'], 'vault')
})

test(
  'what a member says it does not need any more, a vault gives back to its disk',
  { skip: NO_MOUNT },
  async (t) => {
    const disk = await smallDisk(t, 256)
    const place = await Place.make(t)
    const [user, vault] = [await place.host('user'), await place.host('vault')]
    await symlink(disk, join(user.home, 'store'))
    await place.write('files/a', 'first')
    await user.ok('add', place.path('files'), '--name', 'files')
    await user.ok('suspend', 'files')
    const asked = await user.result('vault', 'invite', 'files')
    const [kept] = objects(await vault.ok('vault', String(asked['invite']), '--json'))
    const name = String(kept?.['name'])
    const storeOf = async (): Promise<number> => {
      const [store] = objects(await vault.ok('vault', '--json'))
      return Number(store?.['used'])
    }
    await randomFile(place.path('files/big'), 640)
    // The suspend fails, and what it had stored by then, and a vault may have, is nobody's.
    const most = { bytes: 0, isDone: false }
    const watching = (async () => {
      while (!most.isDone) most.bytes = Math.max(most.bytes, await storeOf())
    })()
    await user.fails(14, 'suspend', 'files')
    most.isDone = true
    await watching
    assert.ok(most.bytes > FILE, `the vault never had more than ${most.bytes} bytes`)
    await eventually(async () => ((await storeOf()) < FILE ? true : null), 'its space is back')
    await rm(place.path('files/big'))
    await place.write('files/b', 'second')
    await user.ok('suspend', 'files')
    const { total } = (await statusOf(user, 'files')).blocks
    await eventually(async () => {
      const { blocks } = await statusOf(vault, name)
      return (blocks.here === blocks.total && blocks.total >= total) || null
    }, 'the vault has all that counts')
  }
)
