import { mkdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { missingForQemu } from '../../../examples/demo/linux-guest.js'
import { ownLoopback } from '../across/namespace.js'
import { describeImages, makeImages, sizesFor, type Images } from '../image.js'
import { measure } from '../measure.js'
import { OUR_VERSION, ourProgram } from '../ours.js'
import type { Bench, Part } from '../part.js'
import { versionOf } from '../program.js'
import { OURS, Results, type PartReport } from '../report.js'
import { sync } from '../sync.js'

const Checkpoint = z.object({ wall: z.number(), cpu: z.number(), stored: z.number() })
const Checkpoints = z.tuple([Checkpoint, Checkpoint])
const Lap = z.object({ wall: z.number(), cpu: z.number(), wire: z.number(), rss: z.number() })

export const dedupePart: Part = {
  name: 'dedupe',
  about: 'what is new in an idle guest after ten seconds, and in a second parcel of one system',
  run
}

async function run(bench: Bench): Promise<PartReport> {
  bench.saw(OURS, OUR_VERSION, 'encrypted, zstd, synced')
  bench.say('making the image')
  const images = await makeImages(bench.dir, sizesFor(bench.data))
  const results = new Results()
  const missing = missingForQemu()
  bench.saw('qemu', missing === null ? versionOf('qemu-system-x86_64', '--version') : null, 'TCG')
  for (let run = 1; run <= bench.runs; run++) {
    if (missing === null) await idleGuest(bench, run, results)
    await secondParcel(bench, { run, images, results })
  }
  return results.report('dedupe', describeImages(images), [
    'New bytes are those of blocks, compressed, before sealing and padding; % new is over the memory of the guest.',
    'The second parcel is the image after the changes, as a parcel of its own; chunks that the other host has of the first may save their way.',
    ...(missing === null ? [] : [`No guest: ${missing}.`])
  ])
}

async function idleGuest(bench: Bench, run: number, results: Results): Promise<void> {
  const mebibytes = bench.data >= 1_000 ? 512 : 128
  bench.say(`run ${run}, an idle guest`)
  const dir = join(bench.dir, 'idle')
  await mkdir(dir)
  const args = [dir, bench.dht, String(mebibytes)]
  const { stdout } = await measure({
    argv: ourProgram('./guest-process.js', import.meta.url, ...args)
  })
  const [first, second] = Checkpoints.parse(JSON.parse(stdout))
  for (const [task, { wall, cpu, stored }] of [
    [`first checkpoint of an idle guest of ${mebibytes} MiB`, first],
    ['second, ten seconds later', second]
  ] as const) {
    const share = stored / (mebibytes * 1_048_576)
    results.add(task, OURS, { wall, cpu, newBytes: stored, share })
  }
  await rm(dir, { recursive: true })
}

async function secondParcel(
  bench: Bench,
  { run, images, results }: { run: number; images: Images; results: Results }
): Promise<void> {
  bench.say(`run ${run}, two parcels of one system`)
  const dir = join(bench.dir, 'second')
  await mkdir(dir)
  sync()
  const { before, after } = images
  const command = ourProgram('./second-process.js', import.meta.url, dir, before, after)
  const loopback = ownLoopback()
  const argv: typeof command = loopback === null ? command : [...loopback, ...command]
  const [first, second] = z.tuple([Lap, Lap]).parse(JSON.parse((await measure({ argv })).stdout))
  results.add('first parcel, to a host that has nothing', OURS, first)
  const share = second.wire / first.wire
  results.add('second parcel with the same system, to that host', OURS, {
    ...second,
    ofFirst: share
  })
  await rm(dir, { recursive: true })
}
