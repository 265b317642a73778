import { describeImages, makeImages, sizesFor } from '../image.js'
import { OUR_VERSION } from '../ours.js'
import type { Bench, Part } from '../part.js'
import { OURS, Results, type PartReport } from '../report.js'
import { amplification } from './amplification.js'
import { huge } from './huge.js'
import { many } from './many.js'
import { versions } from './versions.js'

export const storePart: Part = {
  name: 'store',
  about: 'bytes written, the index, many versions, many parcels; with --huge 100 GiB',
  run
}

async function run(bench: Bench): Promise<PartReport> {
  bench.saw(OURS, OUR_VERSION, 'encrypted, zstd, synced')
  bench.say('making the image')
  const images = await makeImages(bench.dir, sizesFor(bench.data))
  const results = new Results()
  await amplification(bench, images, results)
  await versions(bench, results)
  await many(bench, results)
  if (bench.huge) await huge(bench, results)
  return results.report('store', describeImages(images), [
    'Bytes written are those that the process sent towards the disk, its end included; stored are bytes of blocks before sealing and padding.',
    'Index bytes are those on the disk, over chunks of 64 KiB that differ and are not zero.'
  ])
}
