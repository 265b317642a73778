import { mkdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { describeImages, makeImages, sizesFor } from '../image.js'
import { makeReady } from '../machine.js'
import { measure } from '../measure.js'
import { isMetric, type Values } from '../metrics.js'
import { OUR_VERSION, ourProgram } from '../ours.js'
import type { Bench, Part } from '../part.js'
import { versionOf } from '../program.js'
import { OURS, Results, type PartReport } from '../report.js'
import { hyperdriveVersion } from './hyperdrive-packages.js'
import { ownLoopback } from './namespace.js'
import { BLOCKS, CHANGED, FILES, FIRST } from './tasks.js'

interface Carrier {
  name: string
  how: string
  program: string
  args: string[]
  /** null: not present. */
  version(): string | null
}

const CARRIERS: readonly Carrier[] = [
  {
    name: OURS,
    how: 'suspend, replicate, verify; encrypted, zstd',
    program: 'ours',
    args: [],
    version: () => OUR_VERSION
  },
  {
    name: 'syncthing',
    how: 'loopback alone: no discovery, relay, NAT, reports; asked to scan; compresses metadata only',
    program: 'syncthing',
    args: [],
    version: () => versionOf('syncthing', '--version')
  },
  {
    name: 'hyperdrive',
    how: 'mirror-drive in, hyperswarm across, no compression; stores holes as zeros',
    program: 'hyperdrive',
    args: [],
    version: hyperdriveVersion
  }
]

/** Only when asked for: what mirror-drive's content-defined chunks save and take. */
const DEDUP: Carrier = {
  name: 'hyperdrive-dedup',
  how: 'as hyperdrive, with the dedup option of mirror-drive',
  program: 'hyperdrive',
  args: ['dedup'],
  version: hyperdriveVersion
}

const Printed = z.record(z.string(), z.record(z.string(), z.number()))

export const acrossPart: Part = {
  name: 'across',
  about: 'from one host to another on this machine: wall, CPU of both ends, bytes on the wire',
  run
}

async function run(bench: Bench): Promise<PartReport> {
  bench.say('making the image')
  const images = await makeImages(bench.dir, sizesFor(bench.data))
  const loopback = ownLoopback()
  const carriers = [...CARRIERS, DEDUP].filter((carrier) => {
    const { name, how } = carrier
    if (!bench.wants(name, carrier !== DEDUP)) return false
    const version = carrier.version()
    bench.saw(name, version, how)
    return version !== null
  })
  const results = new Results()
  for (let run = 1; run <= bench.runs; run++) {
    for (const { name, program, args } of carriers) {
      bench.say(`run ${run}, ${name}`)
      const dir = join(bench.dir, 'run')
      await mkdir(dir)
      await makeReady(bench.dir, [images.before, images.after])
      const path = `./${program}-run-process.js`
      const all = [dir, images.before, images.after, ...args]
      const command = ourProgram(path, import.meta.url, ...all)
      const argv: typeof command = loopback === null ? command : [...loopback, ...command]
      const { stdout } = await measure({ argv })
      const laps = Printed.parse(JSON.parse(stdout))
      for (const task of [FIRST, FIRST + FILES, CHANGED, CHANGED + FILES, BLOCKS]) {
        const values = laps[task]
        if (values !== undefined) results.add(task, name, known(values))
      }
      await rm(dir, { recursive: true })
    }
  }
  return results.report('across', describeImages(images), [
    'Two processes on loopback, and a private DHT of five nodes in a third; CPU is that of both ends together, memory of the larger one.',
    loopback === null
      ? 'Bytes on the wire are all that went over the loopback meanwhile, also of others.'
      : 'The two have a loopback of their own; bytes on the wire are all that went over it, headers included.',
    'Syncthing hashes the file, sends it, and is done when the file is there.',
    `"${BLOCKS}": wall from having met until all is there; MB per CPU s are bytes of blocks over CPU seconds of both.`
  ])
}

function known(values: Record<string, number>): Values {
  return Object.fromEntries(Object.entries(values).filter(([name]) => isMetric(name)))
}
