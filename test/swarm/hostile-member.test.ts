import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import type { CoreKind } from '../../lib/format/core-header.js'
import { encodeMetaRecord, type Places } from '../../lib/format/meta-record.js'
import { openHome } from '../../lib/index.js'
import { encodeSigned, signControl } from '../../lib/parcel/members/control.js'
import { inParcel } from '../parcel/parcels.js'
import { eventually, TestHosts } from '../support/hosts.js'

const LIMIT = { timeout: 60_000 }

/** What an author can say anew of where its second version is. */
const LIES: [string, (second: Places, first: Places) => Places][] = [
  ["another file's", (second, first) => ({ ...second, roots: first.roots })],
  ['in a log that it does not name', (second) => ({ ...second, cores: [randomBytes(32)] })]
]

for (const [what, lie] of LIES) {
  test(
    `new places of an author's version do not harm who continues it: ${what}`,
    LIMIT,
    async (t) => {
      const hosts = await TestHosts.start(t)
      const [author, reader] = [await hosts.create('author'), await hosts.create('reader')]
      const folder = join(hosts.dir, 'folder')
      await mkdir(folder)
      await author.add(folder, { name: 'p', vm: 'folder' })
      for (let n = 0; n < 2; n++) {
        await writeFile(join(folder, 'disk'), randomBytes(300_000))
        await author.suspend('p')
      }
      await reader.join((await author.invite('p')).invite)
      await reader.resume('p', { to: join(hosts.dir, 'there') })

      await hosts.stop('author')
      await inParcel(hosts.home('author'), 'p', async (parcel) => {
        const [second, first] = parcel.history.list()
        const meta = parcel.logs().find(({ kind, isOwn }) => kind === 'meta' && isOwn)
        assert.ok(first && second && meta)
        const places = lie(parcel.history.places(second.id), parcel.history.places(first.id))
        await meta.append([
          [encodeMetaRecord({ type: 'places', places })],
          [encodeMetaRecord({ type: 'name', name: 'liar' })]
        ])
      })
      await hosts.open('author')
      await eventually(async () => {
        const { members } = await reader.status('p')
        return members.some(({ name }) => name === 'liar') ? true : null
      }, 'the new places are here')

      const { version } = await reader.suspend('p')
      const to = join(hosts.dir, 'copy')
      await reader.resume('p', { version: version.id, to })
      assert.ok((await readFile(join(to, 'disk'))).equals(await readFile(join(folder, 'disk'))))
    }
  )
}

test(
  "a member that announces another's new logs as something else does not hide them",
  LIMIT,
  async (t) => {
    const hosts = await TestHosts.start(t)
    const [author, liar, reader] = [
      await hosts.create('author'),
      await hosts.create('liar'),
      await hosts.create('reader')
    ]
    const folder = join(hosts.dir, 'folder')
    await mkdir(folder)
    await writeFile(join(folder, 'file'), 'one')
    await author.add(folder, { name: 'p', vm: 'folder' })
    await author.suspend('p')
    for (const host of [liar, reader]) {
      await host.join((await author.invite('p')).invite)
      await eventually(async () => (await host.status('p')).heads[0]?.isHere || null, 'a version')
    }
    await eventually(async () => {
      const { members } = await reader.status('p')
      return members.length === 3 || null
    }, 'the reader knows the liar')
    for (const name of ['author', 'liar', 'reader']) await hosts.stop(name)

    // With its store gone the author goes on in new logs.
    await rm(join(hosts.home('author'), 'store'), { recursive: true })
    const kinds: Partial<Record<CoreKind, Buffer>> = {}
    await inParcel(hosts.home('author'), 'p', async (parcel) => {
      for (const log of parcel.logs()) if (log.isOwn) kinds[log.kind] = log.key
    })
    const { control, meta, data } = kinds
    assert.ok(control && meta && data)
    const { identity } = await openHome(hosts.home('liar'))
    await inParcel(hosts.home('liar'), 'p', async (parcel) => {
      const incarnation = { id: randomBytes(16), control: data, meta: control, data: [meta] }
      const lie = signControl(identity, {
        parcel: parcel.id,
        sequence: 9,
        epoch: 0,
        parents: parcel.control.parents(64),
        created: 1,
        body: { type: 'cores', incarnation }
      })
      const own = parcel.logs().find(({ kind, isOwn }) => kind === 'control' && isOwn)
      await own?.append([[encodeSigned(lie)]])
    })
    await hosts.open('liar')
    const again = await hosts.open('reader')
    await eventually(async () => {
      const { members } = await again.status('p')
      return members.some(({ id, incarnations }) => id === liar.id && incarnations === 2) || null
    }, 'the lie has arrived')
    await hosts.stop('liar')

    const back = await hosts.open('author')
    await writeFile(join(folder, 'file'), 'two')
    await back.suspend('p', { message: 'two' })
    await eventually(async () => {
      const [head] = (await again.status('p')).heads
      return (head?.message === 'two' && head.isHere) || null
    }, 'the new version is here')
  }
)
