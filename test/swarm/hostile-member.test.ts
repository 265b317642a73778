import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { encodeMetaRecord, type Places } from '../../lib/format/meta-record.js'
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
