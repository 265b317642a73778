import assert from 'node:assert/strict'
import { mkdir, readdir, readFile, rename, rm, statfs, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { eventually } from '../support/hosts.js'
import { NO_MOUNT, smallDisk } from '../support/small-disk.js'
import { randomFile } from './blob.js'
import { objects, Place } from './place.js'

async function used(dir: string): Promise<number> {
  const { blocks, bfree, bsize } = await statfs(dir)
  return (blocks - bfree) * bsize
}

test(
  'a full disk under the store: exit 14, old versions stay, and it goes on when there is space',
  { skip: NO_MOUNT },
  async (t) => {
    const disk = await smallDisk(t, 96)
    const place = await Place.make(t)
    await mkdir(place.path('homes'))
    // The disk is mounted in the home, before there is anything in it.
    const user = await place.host('one')
    await symlink(disk, join(user.home, 'store'))
    await place.write('files/a', 'first')
    await user.ok('add', place.path('files'), '--name', 'files')
    const first = String((await user.result('suspend', 'files'))['id'])
    await writeFile(join(disk, 'ballast'), Buffer.alloc(48 << 20))
    await randomFile(place.path('files/big'), 128)
    let folder = place.path('files')
    for (let round = 0; round < 2; round++) {
      assert.match(await user.fails(14, 'suspend', 'files'), /full/)
      const log = objects(await user.ok('log', 'files', '--json'))
      assert.deepEqual(
        log.map(({ id }) => id),
        [first]
      )
      const to = place.path(`old${round}`)
      await user.ok('resume', 'files', '--version', first, '--force', '--to', to)
      assert.equal(await readFile(join(to, 'a'), 'utf8'), 'first')
      await rename(join(folder, 'big'), join(to, 'big'))
      folder = to
    }
    await rm(join(disk, 'ballast'))
    await rm(place.path('old1'), { recursive: true })
    await place.write('old1/small', 'after it')
    // The same daemon, nobody restarted it; while it opens its store anew it does not answer.
    const status = (): Promise<number | null> =>
      user.client.status().then((now) => now?.pid ?? null)
    const pid = await eventually(status, 'the daemon answers')
    await user.ok('resume', 'files', '--version', first, '--force', '--to', place.path('old1'))
    await place.write('old1/small', 'after it')
    const second = await user.result('suspend', 'files')
    assert.deepEqual(second['parents'], [first])
    await user.ok('resume', 'files', '--to', place.path('copy'))
    assert.equal(await readFile(place.path('copy/small'), 'utf8'), 'after it')
    assert.equal(await user.daemonPid(), pid, 'the daemon was restarted')
    await user.killDaemon()
    assert.equal(objects(await user.ok('log', 'files', '--json')).length, 2)
    assert.deepEqual((await user.result('status', 'files'))['problems'], [])
  }
)

test(
  'a disk that fills up in the middle of a suspend: its space is given back, other hosts catch up',
  { skip: NO_MOUNT },
  async (t) => {
    const disk = await smallDisk(t, 256)
    const place = await Place.make(t)
    const [user, other] = [await place.host('one'), await place.host('two')]
    await symlink(disk, join(user.home, 'store'))
    await place.write('files/a', 'first')
    await user.ok('add', place.path('files'), '--name', 'files')
    await user.ok('suspend', 'files')
    const { invite } = await user.result('invite', 'files')
    await other.ok('join', String(invite))
    const before = await used(disk)
    await randomFile(place.path('files/big'), 400)
    for (let round = 0; round < 2; round++) {
      assert.match(await user.fails(14, 'suspend', 'files'), /full/)
      // About 200 MiB were written. A file of the store, of 32 MiB, may hold something that counts,
      // and the store makes room for its next one.
      const isBack = async (): Promise<true | null> => {
        return (await used(disk)) - before < 80 << 20 ? true : null
      }
      await eventually(isBack, 'the space of what was stored is given back')
    }
    await rm(place.path('files/big'))
    await place.write('files/small', 'second')
    const { id } = await user.result('suspend', 'files')
    // The other host has some of what was given up, or waits for it, or for none of it.
    await eventually(async () => {
      const [head] = objects(await other.ok('log', 'files', '--json'))
      return head?.['id'] === id && head?.['isHere'] === true ? true : null
    }, 'the other host has the new version')
    await other.ok('resume', 'files', '--to', place.path('copy'))
    assert.equal(await readFile(place.path('copy/small'), 'utf8'), 'second')
    await user.killDaemon()
    const [head] = objects(await user.ok('log', 'files', '--json'))
    assert.equal(head?.['isHere'], true)
    assert.deepEqual((await user.result('status', 'files'))['problems'], [])
  }
)

test(
  'a destination without enough space: exit 14 and nothing is left there',
  { skip: NO_MOUNT },
  async (t) => {
    const disk = await smallDisk(t, 16)
    const place = await Place.make(t)
    const user = await place.host('one')
    await mkdir(place.path('files'))
    await randomFile(place.path('files/big'), 48)
    await user.ok('add', place.path('files'), '--name', 'files')
    await user.ok('suspend', 'files')
    assert.match(
      await user.fails(14, 'resume', 'files', '--to', join(disk, 'copy')),
      /needs \d+ MiB/
    )
    assert.deepEqual(await readdir(disk), [])
    assert.equal((await user.result('status', 'files'))['path'], place.path('files'))
  }
)

test(
  'a destination that fills up meanwhile: exit 14 and nothing is left there',
  { skip: NO_MOUNT },
  async (t) => {
    const disk = await smallDisk(t, 16)
    const place = await Place.make(t)
    const user = await place.host('one')
    // Small files need a page each, which nobody measured.
    for (let n = 0; n < 40; n++) await mkdir(place.path(`files/d${n}`), { recursive: true })
    const writes = Array.from({ length: 1_000 }, (_, n) =>
      place.write(`files/d${n % 40}/${n}`, 'x')
    )
    await Promise.all(writes)
    await writeFile(join(disk, 'ballast'), Buffer.alloc(13 << 20))
    await user.ok('add', place.path('files'), '--name', 'files')
    await user.ok('suspend', 'files')
    await user.fails(14, 'resume', 'files', '--to', join(disk, 'copy'))
    assert.deepEqual(await readdir(disk), ['ballast'])
  }
)

test(
  'a full disk under a running machine: the suspend is exit 14 and the guest goes on',
  { skip: NO_MOUNT },
  async (t) => {
    const disk = await smallDisk(t, 96)
    const place = await Place.make(t)
    const user = await place.host('one')
    await symlink(disk, join(user.home, 'store'))
    await mkdir(place.path('vm'))
    await user.ok('add', place.path('vm'), '--name', 'vm', '--vm', 'v86')
    await user.ok('run', 'vm')
    await writeFile(join(disk, 'ballast'), Buffer.alloc(48 << 20))
    await randomFile(place.path('vm/extra'), 128)
    await user.fails(14, 'suspend', 'vm')
    assert.equal((await user.result('status', 'vm'))['state'], 'running')
    await rm(join(disk, 'ballast'))
    await rm(place.path('vm/extra'))
    await user.ok('suspend', 'vm')
    assert.equal((await user.result('status', 'vm'))['state'], 'suspended')
  }
)
