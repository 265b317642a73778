import assert from 'node:assert/strict'
import { chmod, mkdir, readdir, writeFile } from 'node:fs/promises'
import { test } from 'node:test'
import { isRoot, NOBODY } from '../cli/place.js'
import { missing } from '../support/programs.js'
import {
  ask,
  DATA_SUM,
  Hosts,
  nextTick,
  resumeUnfetched,
  SKIP,
  status,
  SUM
} from './demand-hosts.js'

const skip =
  SKIP || (isRoot ? missing(['unshare', 'setpriv', 'mount']) : 'needs root to hide /dev/fuse')

/** Runs as a user who cannot open /dev/fuse. */
const HIDING = `mount --bind "$0" /dev/fuse && exec setpriv --reuid ${NOBODY} --regid ${NOBODY} --clear-groups "$@"`

test(
  'without FUSE memory is fetched before the start, and the disk as it is wanted',
  { skip },
  async (t) => {
    const hosts = await Hosts.start(t, {
      by: (place) => ['unshare', '-m', 'sh', '-c', HIDING, place.path('closed')],
      prepare: async (place) => {
        await writeFile(place.path('closed'), '', { mode: 0 })
        await mkdir(place.path('homes'))
        for (const dir of [place.dir, place.path('homes')]) await chmod(dir, 0o777)
      }
    })
    const { a, b } = hosts
    const to = hosts.to(b)
    const { code, stdout } = await resumeUnfetched(a, b, '--to', to)
    assert.equal(code, 0, stdout)
    assert.match(stdout, /its memory is fetched before the machine starts.*\/dev\/fuse/)
    assert.deepEqual((await readdir(to)).includes('disk.img'), false)
    assert.deepEqual((await readdir(`${to}/state`)).includes('memory'), true)
    const { tick } = await nextTick(b)
    const before = await status(b)
    assert.ok(before.blocks.here < before.blocks.total, 'all of it was here')
    assert.equal(await ask(b, 'sum', SUM), DATA_SUM)
    await ask(b, 'write there', /wrote there/)
    await b.ok('suspend', 'vm')
    await hosts.resume(a)
    assert.ok((await nextTick(a)).tick > tick)
    assert.match(await ask(a, 'notes', /notes (.*)\r?\n/), /there/)
    await a.ok('stop', 'vm')
  }
)
