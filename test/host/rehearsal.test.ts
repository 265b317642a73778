import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { chmod, mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { missingForQemu } from '../../examples/demo/linux-guest.js'
import { ParcelList } from '../../lib/host/parcel-list.js'
import { Rehearsal } from '../../lib/host/rehearsal.js'
import { Parcel } from '../../lib/parcel/parcel.js'
import { qemu } from '../../lib/vmm/qemu.js'
import { Identity } from '../../lib/keys/identity.js'
import { closeContext, openContext, WORK } from '../parcel/parcels.js'
import { onEnd } from '../support/on-end.js'
import { scratch } from '../support/scratch.js'

const skip = missingForQemu() ?? false
const FACTS = { vmm: 'qemu 7.2', machine: 'pc-q35-7.2', cpu: 'qemu64-v1', accelerator: 'tcg' }

test(
  'the monitor is asked before anybody resumes, once for all versions alike',
  { skip },
  async (t) => {
    const dir = await scratch(t)
    const asked = join(dir, 'asked')
    const { PATH = '' } = process.env
    const real = execFileSync('sh', ['-c', 'command -v qemu-system-x86_64'], { encoding: 'utf8' })
    await mkdir(join(dir, 'bin'))
    const noting = `#!/bin/sh\necho "$@" >> ${asked}\nexec ${real.trim()} "$@"\n`
    await writeFile(join(dir, 'bin/qemu-system-x86_64'), noting)
    await chmod(join(dir, 'bin/qemu-system-x86_64'), 0o755)
    onEnd(t, () => (process.env['PATH'] = PATH))
    process.env['PATH'] = `${join(dir, 'bin')}:${PATH}`
    const questions = async (): Promise<number> =>
      (await readFile(asked, 'utf8').catch(() => '')).split('\n').length - 1

    await mkdir(join(dir, 'home/parcels'), { recursive: true })
    await mkdir(join(dir, 'folder'))
    const context = await openContext(join(dir, 'home'), Identity.create(), Date.now)
    onEnd(t, () => closeContext(context))
    const parcel = await Parcel.create(context, { name: 'p', driver: 'qemu', path: null })
    onEnd(t, () => parcel.close())
    const parcels = new ParcelList()
    parcels.add(parcel)
    const rehearsal = new Rehearsal(parcels)
    await rehearsal.look()
    assert.equal(await questions(), 0)
    for (const file of ['one', 'two']) {
      await writeFile(join(dir, 'folder', file), file)
      const what = { path: join(dir, 'folder'), exclude: () => false, facts: FACTS, message: '' }
      await parcel.author.commit({ ...what, roles: {}, compress: true }, WORK)
      await rehearsal.look()
      // Its version, its lists of machines and of processors, and one machine.
      assert.equal(await questions(), 4)
    }
    assert.deepEqual(await qemu.mismatches(FACTS), [])
    assert.equal(await questions(), 4)
  }
)
