import { createHash } from 'node:crypto'
import { mkdir, open, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import type { Images } from '../image.js'
import { measure } from '../measure.js'
import { ourProgram } from '../ours.js'
import type { Bench } from '../part.js'
import { OURS, type Results } from '../report.js'
import { sync } from '../sync.js'

const CHUNK = 65_536
const Sums = z.object({ stored: z.number(), written: z.number(), times: z.number() })
const Printed = z.object({ values: z.tuple([Sums, Sums]), index: z.number() })

/** Bytes written for each byte of blocks, and what the index takes. */
export async function amplification(bench: Bench, images: Images, results: Results): Promise<void> {
  const { before, after } = images
  const chunks = await distinctChunks([before, after])
  for (let run = 1; run <= bench.runs; run++) {
    bench.say(`run ${run}, bytes written`)
    const dir = join(bench.dir, 'written')
    await mkdir(dir)
    sync()
    const argv = ourProgram(
      './amplification-process.js',
      import.meta.url,
      dir,
      bench.dht,
      before,
      after
    )
    const { stdout } = await measure({ argv })
    const { values, index } = Printed.parse(JSON.parse(stdout))
    results.add('bytes written, first suspend', OURS, values[0])
    results.add('bytes written, after the changes', OURS, values[1])
    results.add('the index, after both', OURS, { chunks, perChunk: index / chunks })
    await rm(dir, { recursive: true })
  }
}

/** How many different chunks of 64 KiB there are, other than zeros. */
async function distinctChunks(paths: readonly string[]): Promise<number> {
  const known = new Set<string>()
  const buffer = Buffer.alloc(CHUNK)
  const zeros = Buffer.alloc(CHUNK)
  for (const path of paths) {
    const file = await open(path)
    for (;;) {
      const { bytesRead } = await file.read(buffer, 0, CHUNK, null)
      if (bytesRead === 0) break
      const chunk = buffer.subarray(0, bytesRead)
      if (chunk.equals(zeros.subarray(0, bytesRead))) continue
      known.add(createHash('sha1').update(chunk).digest('base64'))
    }
    await file.close()
  }
  return known.size
}
