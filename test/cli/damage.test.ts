import assert from 'node:assert/strict'
import { cp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { finish } from '../support/cli.js'
import { randomFile } from './blob.js'
import { endAll, failure, Place } from './place.js'

/** Fewer would leave the big files to luck; more take time. */
const ROUNDS = 2

test('a damaged store is a clear error, never wrong data', async (t) => {
  const place = await Place.make(t)
  const user = await place.host('one')
  await place.write('files/a', 'first')
  await randomFile(place.path('files/blob'), 4)
  await user.ok('add', place.path('files'), '--name', 'files')
  await user.ok('suspend', 'files')
  await user.killDaemon()
  const db = join(user.home, 'store/db')
  await cp(db, place.path('kept'), { recursive: true })
  const blob = await readFile(place.path('files/blob'))
  const outcomes: string[] = []
  const names = (await readdir(db)).filter((name) =>
    /\.(sst|blob|log)$|^MANIFEST|^CURRENT/.test(name)
  )
  for (const name of names) {
    const bytes = await readFile(join(db, name))
    if (bytes.byteLength === 0) continue
    const steps = name.endsWith('.blob') ? ROUNDS : 1
    for (let n = 0; n < steps; n++) {
      const bad = Buffer.from(bytes)
      const at = Math.floor(((n + 0.5) / steps) * bad.byteLength)
      for (let k = at; k < Math.min(at + 3, bad.byteLength); k++) bad[k] = (bad[k] ?? 0) ^ 0x41
      await writeFile(join(db, name), bad)
      const to = place.path('to', `${name}-${n}`)
      const child = user.start('resume', 'files', '--to', to, '--timeout', '2')
      const timer = setTimeout(() => child.kill('SIGKILL'), 5_000)
      const ran = await finish(child)
      clearTimeout(timer)
      const what = `${name} (${bytes.byteLength}) at ${at}`
      try {
        if (ran.code === 0) {
          assert.deepEqual(await readdir(to), ['a', 'blob'])
          assert.ok(blob.equals(await readFile(join(to, 'blob'))), 'wrong data')
          assert.equal(await readFile(join(to, 'a'), 'utf8'), 'first')
        } else {
          const line = failure(ran, ran.code === 1 ? 1 : 7, what)
          assert.match(line, /damage|corrupt|checksum|restore|store/i)
          assert.deepEqual(
            (await readdir(place.path('to')).catch(() => [])).filter((one) => one.includes(name)),
            []
          )
        }
      } catch (error) {
        outcomes.push(`${what}: ${error instanceof Error ? error.message : String(error)}`)
      }
      await endAll(user.home)
      await rm(place.path('to'), { recursive: true, force: true })
      await rm(db, { recursive: true })
      await cp(place.path('kept'), db, { recursive: true })
    }
  }
  assert.deepEqual(outcomes, [])
  await user.ok('resume', 'files', '--to', place.path('whole'))
})

test('files of the store that are gone are a clear error, and no version is made up', async (t) => {
  const place = await Place.make(t)
  const user = await place.host('one')
  await place.write('files/a', 'first')
  await user.ok('add', place.path('files'), '--name', 'files')
  await user.ok('suspend', 'files')
  await user.killDaemon()
  const db = join(user.home, 'store/db')
  await cp(db, place.path('kept'), { recursive: true })
  for (const suffix of ['.blob', '.sst']) {
    for (const name of await readdir(db)) if (name.endsWith(suffix)) await rm(join(db, name))
    const ran = await user.run('resume', 'files', '--to', place.path('to'))
    assert.notEqual(ran.code, 0)
    failure(ran, ran.code === 1 ? 1 : 7, suffix)
    await endAll(user.home)
    await rm(db, { recursive: true })
    await cp(place.path('kept'), db, { recursive: true })
  }
  await user.ok('resume', 'files', '--to', place.path('to'))
})

test('a lost or damaged chunk index costs nothing but time', async (t) => {
  const place = await Place.make(t)
  const user = await place.host('one')
  await randomFile(place.path('blob'), 2)
  await place.write('files/a', await readFile(place.path('blob')))
  await user.ok('add', place.path('files'), '--name', 'files')
  await user.ok('suspend', 'files')
  await user.killDaemon()
  await rm(join(user.home, 'index'), { recursive: true })
  await user.ok('suspend', 'files')
  await user.killDaemon()
  for (const name of await readdir(join(user.home, 'index'))) {
    if (name.endsWith('.sst') || name.startsWith('MANIFEST')) {
      await writeFile(join(user.home, 'index', name), 'rubbish')
    }
  }
  await user.ok('suspend', 'files')
  await user.ok('resume', 'files', '--to', place.path('to'))
  assert.deepEqual(await readFile(place.path('to/a')), await readFile(place.path('blob')))
})
