import { mkdir, readdir, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { describeImages, makeImages, sizesFor, type Images } from '../image.js'
import { measure, type Command } from '../measure.js'
import type { Bench, Part } from '../part.js'
import { Results, type PartReport } from '../report.js'
import { requireSame } from '../same.js'
import { borg } from './borg.js'
import { casync } from './casync.js'
import type { Keeper, Place } from './keeper.js'
import { daemonAt } from './daemon.js'
import { oursAt, plainAt } from './ours.js'
import { restic } from './restic.js'
import { step } from './step.js'

const NOTES = [
  'CPU and memory are those of the whole process, start and end included; memory of the largest one.',
  'restic and borg do not look into a file whose size and times are as they were; the others read it again.',
  'restic 0.14 has no sparse restore and writes the holes as well.',
  'Before each step the image is read once (nothing waits for the disk to read), free memory is touched, and all is synced.'
]

export const suspendPart: Part = {
  name: 'suspend',
  about: 'store an image, store it again after changes, again unchanged, and bring it back',
  run
}

async function run(bench: Bench): Promise<PartReport> {
  bench.say('making the image')
  const images = await makeImages(bench.dir, sizesFor(bench.data))
  const plain = plainAt(bench.dht)
  const keepers = [oursAt(bench.dht), daemonAt(bench.dht), restic, borg, casync, plain].filter(
    (keeper) => {
      if (!bench.wants(keeper.name, keeper !== plain)) return false
      const version = keeper.version()
      bench.saw(keeper.name, version, keeper.how)
      return version !== null
    }
  )
  const results = new Results()
  for (let run = 1; run <= bench.runs; run++) {
    for (const keeper of keepers) await keep(keeper, images, { bench, results, run })
  }
  return results.report('suspend', describeImages(images), NOTES)
}

async function keep(
  keeper: Keeper,
  images: Images,
  { bench, results, run }: { bench: Bench; results: Results; run: number }
): Promise<void> {
  const repo = join(bench.dir, 'repo')
  const folder = join(bench.dir, 'folder')
  const out = join(bench.dir, 'out')
  const disk = join(folder, 'disk.img')
  for (const dir of [repo, folder, out]) await mkdir(dir)
  const place: Place = { repo, folder, version: 0 }

  const measured = (task: string, command: Command, data: number): Promise<void> => {
    const service = keeper.service?.(place) ?? null
    const at = task === RESTORE || service !== null ? null : repo
    const what = { keeper, task, command, data, reads: [disk], repo: at, service }
    return step(what, { bench, results, run })
  }
  const store = (): Command => {
    place.version++
    return keeper.store(place)
  }

  try {
    await rename(images.before, disk)
    try {
      await writeFile(join(folder, 'note'), 'before')
      for (const command of keeper.init(place)) await measure(command)
      await measured('first suspend', store(), images.data)
    } finally {
      await rename(disk, images.before)
    }
    await rename(images.after, disk)
    try {
      // Newer than the image by more than a clock's tick: borg never trusts the times of the newest
      // file, and would read an image that is unchanged again.
      await setTimeout(50)
      await writeFile(join(folder, 'note'), 'after')
      await measured('second, after the changes', store(), 0)
      await measured('third, unchanged', store(), 0)
      await measured(RESTORE, keeper.restore(place, out), images.data)
      await requireRestored(disk, out)
    } finally {
      await rename(disk, images.after)
    }
  } finally {
    for (const command of keeper.end?.(place) ?? []) await measure(command)
  }
  for (const dir of [repo, folder, out]) await rm(dir, { recursive: true })
}

const RESTORE = 'restore to files'

async function requireRestored(disk: string, out: string): Promise<void> {
  const paths = await readdir(out, { recursive: true })
  const restored = paths.find((path) => path.endsWith('disk.img'))
  if (restored === undefined) throw new Error('the image was not restored')
  requireSame(disk, join(out, restored))
}
