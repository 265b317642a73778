import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { closeSync, openSync, writeSync } from 'node:fs'
import { mkdir, open, readFile, rm, stat, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { Host } from '../../lib/index.js'
import type { DirtyMap } from '../../lib/parcel/commit/scan.js'
import { writeSparse } from '../chunk/sparse.js'
import { onEnd } from '../support/on-end.js'
import { scratch } from '../support/scratch.js'
import { bytesRead } from './bytes-read.js'
import { TestParcel } from './parcels.js'
import { assertSame, snapshot } from './trees.js'

type Ranges = [number, number][]

const MAX = 40 * 65_536
const write = fc.record({
  kind: fc.constantFrom('write', 'zeros', 'punch'),
  at: fc.nat(MAX),
  length: fc.oneof(fc.integer({ min: 1, max: 9_000 }), fc.integer({ min: 1, max: 400_000 }))
})

test('told what was written, a commit makes the version that reading everything makes', async (t) => {
  const test = await TestParcel.create(t)
  const disk = join(test.folder, 'disk')
  const page = fc.array(fc.boolean(), { minLength: 1, maxLength: 600 })
  await fc.assert(
    fc.asyncProperty(
      page,
      fc.array(fc.array(write, { maxLength: 6 }), { minLength: 1, maxLength: 3 }),
      fc.option(fc.nat(MAX)),
      async (pattern, rounds, size) => {
        await rm(disk, { force: true })
        await writeSparse(disk, pattern, pattern.length * 4_096 - 77)
        await test.commit()
        for (const [n, writes] of rounds.entries()) {
          const ranges: Ranges = []
          for (const { kind, at, length } of writes) {
            if (kind === 'punch') {
              execFileSync('fallocate', ['-p', '-o', `${at}`, '-l', `${length}`, disk])
            } else {
              const handle = await open(disk, 'r+')
              await handle.write(
                kind === 'zeros' ? Buffer.alloc(length) : randomBytes(length),
                0,
                length,
                at
              )
              await handle.close()
            }
            ranges.push([at, length])
          }
          if (n === 0 && size !== null) await truncate(disk, size)
          const tracked = await test.commit({}, test.folder, { roles: {}, dirty: { disk: ranges } })
          const files = await snapshot(test.folder)
          const scanned = await test.commit({}, test.folder, { roles: {}, scan: 'full' })
          assert.deepEqual(tracked.version.table, scanned.version.table)
          await test.checkOut(tracked, join(test.dir, 'to'))
          assertSame(await snapshot(join(test.dir, 'to')), files)
          // The check-out moved the folder away: what goes on is the folder as it was.
          await test.checkOut(scanned, test.folder)
        }
      }
    ),
    { numRuns: 30 }
  )
})

test('only what was written is read, in a file of any size', async (t) => {
  const test = await TestParcel.create(t)
  const disk = join(test.folder, 'disk')
  await writeFile(disk, randomBytes(32 * 1_048_576))
  await test.commit()
  const handle = await open(disk, 'r+')
  await handle.write(randomBytes(4_096), 0, 4_096, 20 * 1_048_576)
  await handle.close()
  const dirty: DirtyMap = { disk: [[20 * 1_048_576, 4_096]] }
  let stored = 0
  const read = await bytesRead(async () => {
    const { version } = await test.commit({}, test.folder, { roles: {}, dirty })
    stored = version.totals.stored
  })
  assert.ok(read < 2 * 1_048_576, `${read} bytes read`)
  assert.ok(stored < 65_536 + 16_384, `${stored} bytes stored`)
})

test('what nobody says was written is taken as it was, by full it is read', async (t) => {
  const test = await TestParcel.create(t)
  const disk = join(test.folder, 'disk')
  await writeFile(disk, randomBytes(1_048_576))
  const first = await test.commit()
  await writeFile(disk, randomBytes(1_048_576))
  const told = await test.commit({}, test.folder, { roles: {}, dirty: { disk: [] } })
  assert.ok(told.version.totals.stored < 16_384)
  assert.equal(told.version.parents[0]?.equals(first.id), true)
  const read = await test.commit({}, test.folder, { roles: {}, dirty: { disk: [] }, scan: 'full' })
  assert.ok(read.version.totals.stored > 1_000_000)
})

test('a new file, or one that was something else, is read whole', async (t) => {
  const test = await TestParcel.create(t)
  await test.commit()
  await writeFile(join(test.folder, 'disk'), randomBytes(200_000))
  const dirty: DirtyMap = { disk: [], nowhere: [[0, 1]] }
  const known = await test.commit({}, test.folder, { roles: {}, dirty })
  const files = await snapshot(test.folder)
  await test.checkOut(known, join(test.dir, 'to'))
  assertSame(await snapshot(join(test.dir, 'to')), files)
  assert.equal((await stat(join(test.dir, 'to', 'disk'))).size, 200_000)
})

test('a map that is no map of ranges is USAGE', async (t) => {
  const dir = await scratch(t)
  const host = await Host.create({ home: join(dir, 'home'), name: 'one', bootstrap: '127.0.0.1:9' })
  onEnd(t, () => host.close())
  await mkdir(join(dir, 'folder'))
  await writeFile(join(dir, 'folder', 'disk'), 'bytes')
  await host.add(join(dir, 'folder'), { name: 'p', vm: 'folder' })
  for (const range of [
    [-1, 5],
    [0, 1.5],
    [2 ** 60, 1]
  ] as const) {
    const dirty = { disk: [range] }
    await assert.rejects(async () => host.suspend('p', { dirty }), { code: 'USAGE' })
  }
  await host.suspend('p', { dirty: { disk: [[2 ** 40, 10]] } })
})

test('a write that no map knows of, while the file is stored, is in the version', async (t) => {
  const test = await TestParcel.create(t)
  const disk = join(test.folder, 'disk')
  await writeFile(disk, randomBytes(24 * 1_048_576))
  await test.commit()
  const file = openSync(disk, 'r+')
  onEnd(t, () => closeSync(file))
  writeSync(file, randomBytes(12 * 1_048_576), 0, 12 * 1_048_576, 0)
  let isWritten = false
  const report = ({ done }: { done: number }): void => {
    if (isWritten || done === 0) return
    isWritten = true
    writeSync(file, randomBytes(4_096), 0, 4_096, 20 * 1_048_576)
  }
  const dirty: DirtyMap = { disk: [[0, 12 * 1_048_576]] }
  const known = await test.commit({ report }, test.folder, { roles: {}, dirty })
  assert.ok(isWritten)
  await test.checkOut(known, join(test.dir, 'to'))
  assert.ok((await readFile(join(test.dir, 'to', 'disk'))).equals(await readFile(disk)))
})
