import assert from 'node:assert/strict'
import { rm, statfs, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { PatientVolume } from '../../lib/export/patient-volume.js'
import { Image } from '../../lib/image/image.js'
import { Overlay } from '../../lib/image/overlay.js'
import { eventually } from '../support/hosts.js'
import { onEnd } from '../support/on-end.js'
import { NO_MOUNT, smallDisk } from '../support/small-disk.js'

const PAGE = 4_096
const PAGES = 1_000

/*
 * A file there takes whole pages, and so many records of the journal end with one: the next is then
 * what does not get onto the disk, or only its beginning does.
 */
const FILLED = [169, 339]

for (const filled of FILLED) {
  test(
    `a full disk under the journal at ${filled} records: what was tried again is not forgotten`,
    { skip: NO_MOUNT },
    async (t) => {
      const disk = await smallDisk(t, 16)
      const path = join(disk, 'overlay')
      const overlay = await Overlay.open(path, PAGES * PAGE)
      // Every other page: each has a record of its own.
      for (let n = 0; n < filled; n++) await overlay.write(n * 2 * PAGE, Buffer.alloc(PAGE, 'old'))
      // The data of the next gets onto the disk, what is said of it does not.
      const { bavail, bsize } = await statfs(disk)
      await writeFile(join(disk, 'ballast'), Buffer.alloc((bavail - 1) * bsize))
      const next = filled * 2
      const bytes = Buffer.alloc(PAGE, 'new')
      await assert.rejects(overlay.write(next * PAGE, bytes), { code: 'ENOSPC' })
      await assert.rejects(overlay.zero(0, 1), { code: 'ENOSPC' })
      await rm(join(disk, 'ballast'))
      await overlay.write(next * PAGE, bytes)
      await overlay.zero(0, 1)
      await overlay.write((next + 2) * PAGE, bytes)
      await overlay.close()

      const again = await Overlay.open(path, PAGES * PAGE)
      assert.deepEqual([again.written.count, again.zeroed.count], [filled + 1, 1])
      assert.ok(again.zeroed.has(0))
      for (const page of [next, next + 2]) {
        assert.ok(again.written.has(page), `page ${page} of ${next}`)
        const read = Buffer.alloc(PAGE)
        await again.read(read, page * PAGE)
        assert.deepEqual(read, bytes)
      }
      await again.close()
    }
  )
}

test(
  'what a write waits for is told as long as it does, whatever else goes on meanwhile',
  { skip: NO_MOUNT },
  async (t) => {
    const disk = await smallDisk(t, 1)
    const overlay = await Overlay.open(join(disk, 'overlay'), PAGES * PAGE)
    const nothing = { read: () => Promise.reject(new Error('no version has anything of it')) }
    const image = new Image(null, nothing, overlay)
    onEnd(t, () => image.close())
    const volume = new PatientVolume(image)
    await volume.write(0, Buffer.alloc(PAGE, 'first'))
    await writeFile(join(disk, 'ballast'), Buffer.alloc(1 << 20)).catch(() => {})
    const written = volume.write(PAGE, Buffer.alloc(64 * PAGE, 'second'))
    await eventually(() => volume.trouble, 'a trouble')
    await volume.read(0, PAGE)
    assert.match(volume.trouble ?? '', /full/)
    await rm(join(disk, 'ballast'))
    await written
    assert.equal(volume.trouble, null)
    assert.deepEqual(await volume.read(PAGE, 64 * PAGE), Buffer.alloc(64 * PAGE, 'second'))
  }
)
