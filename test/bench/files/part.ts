import { spawnSync } from 'node:child_process'
import { mkdir, readdir, rm } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { measure, type Command } from '../measure.js'
import type { Bench, Part } from '../part.js'
import { Results, type PartReport } from '../report.js'
import { borg } from '../suspend/borg.js'
import type { Keeper, Place } from '../suspend/keeper.js'
import { oursAt } from '../suspend/ours.js'
import { restic } from '../suspend/restic.js'
import { step } from '../suspend/step.js'
import { changeSmallFiles, makeSmallFiles, type SmallFiles } from './small-files.js'

/** Files for each megabyte of `--data`: 100,000 by default. */
const PER_MEGABYTE = 1_000 / 11
/** By then a file that nobody writes to is known again without a look into it. */
const SETTLED = 61_000

const NOTES = [
  'CPU and memory are those of the whole process, start and end included; memory of the largest one.',
  'The files are a minute old or older, but for those that are written anew.',
  'Before each step the files are read once (nothing waits for the disk to read), free memory is touched, and all is synced.'
]

export const filesPart: Part = {
  name: 'files',
  about:
    'store a tree of small files, store it again after changes, again unchanged, and bring it back',
  run
}

async function run(bench: Bench): Promise<PartReport> {
  bench.say('making the files')
  const count = Math.round(bench.data * PER_MEGABYTE)
  const files = await makeSmallFiles(join(bench.dir, 'tree'), count)
  await setTimeout(SETTLED)
  const keepers = [oursAt(bench.dht), restic, borg].filter((keeper) => {
    if (!bench.wants(keeper.name)) return false
    const version = keeper.version()
    bench.saw(keeper.name, version, keeper.how)
    return version !== null
  })
  const results = new Results()
  let time = 0
  for (let run = 1; run <= bench.runs; run++) {
    for (const keeper of keepers) await keep(keeper, files, { bench, results, run, time: ++time })
  }
  const data = `${count} files, pieces of real ones, ${(files.bytes / 1e6).toFixed(0)} MB; one in twenty is written anew`
  return results.report('files', data, NOTES)
}

async function keep(
  keeper: Keeper,
  files: SmallFiles,
  {
    bench,
    results,
    run,
    time
  }: { bench: Bench; results: Results; run: number; /** From 1. */ time: number }
): Promise<void> {
  const repo = join(bench.dir, 'repo')
  // Not the place of one that was removed: a file system may look for long for an inode that was not in use lately.
  const out = join(bench.dir, `out-${time}`)
  for (const dir of [repo, out]) await mkdir(dir)
  const place: Place = { repo, folder: files.dir, version: 0 }
  const measured = (task: string, command: Command, isRestore = false): Promise<void> => {
    const what = { keeper, task, command, data: 0, reads: files.paths }
    return step({ ...what, repo: isRestore ? null : repo, service: null }, { bench, results, run })
  }
  const store = (): Command => {
    place.version++
    return keeper.store(place)
  }
  for (const command of keeper.init(place)) await measure(command)
  await measured('first suspend', store())
  await changeSmallFiles(files, time)
  // Newer than a clock's tick: borg never trusts the times of the newest file.
  await setTimeout(50)
  await measured('second, after the changes', store())
  await measured('third, unchanged', store())
  await measured('restore to files', keeper.restore(place, out), true)
  await requireRestored(files, out)
  await rm(repo, { recursive: true })
}

async function requireRestored({ dir }: SmallFiles, out: string): Promise<void> {
  const paths = await readdir(out, { recursive: true })
  const first = paths.find((path) => `/${path}`.endsWith('/0/0/0'))
  if (first === undefined) throw new Error('the files were not restored')
  const restored = dirname(dirname(dirname(join(out, first))))
  const { status, stdout } = spawnSync('diff', ['-rq', dir, restored], { encoding: 'utf8' })
  if (status !== 0) throw new Error(`not the same: ${stdout.slice(0, 200)}`)
}
