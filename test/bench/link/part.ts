import { randomBytes } from 'node:crypto'
import { mkdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { z } from 'zod'
import { TestNetwork, type Shape } from '../../hosts/test-network.js'
import { End } from '../across/end.js'
import { OUR_END } from '../across/our-end.js'
import { OUR_VERSION } from '../ours.js'
import type { Bench, Part } from '../part.js'
import { OURS, Results, type PartReport } from '../report.js'

const DHT = fileURLToPath(new URL('./dht-process.js', import.meta.url))
const Arrived = z.object({ seconds: z.number(), share: z.number() })
const SHAPES: readonly Shape[] = [
  { mbit: 100, rttMs: 1 },
  { mbit: 100, rttMs: 100 }
]

export const linkPart: Part = {
  name: 'link',
  about: 'how much of a shaped link is filled, between two network namespaces (root)',
  run
}

async function run(bench: Bench): Promise<PartReport> {
  const missing = TestNetwork.missing()
  bench.saw(OURS, OUR_VERSION, 'encrypted, zstd, synced')
  const results = new Results()
  const bytes = Math.round((bench.data / 1_100) * 96e6)
  for (let run = 1; run <= bench.runs && missing === null; run++) {
    for (const shape of SHAPES) {
      const task = `${shape.mbit} Mb/s, ${shape.rttMs} ms there and back`
      bench.say(`run ${run}, ${task}`)
      results.add(task, OURS, await fill(bench, shape, bytes))
    }
  }
  return results.report('link', `${(bytes / 1e6).toFixed(0)} MB that do not compress`, [
    'A folder that is stored already is fetched by a host that joins; measured from when its first megabyte has come until all is there. The share counts the bytes of the file alone, not those of frames, headers or encryption.',
    'The wire is test/hosts/wire.pl between two veth pairs, in a namespace of its own.',
    ...(missing === null ? [] : [`No link: ${missing}.`])
  ])
}

async function fill(
  bench: Bench,
  shape: Shape,
  bytes: number
): Promise<{ wall: number; ofLink: number }> {
  const dir = join(bench.dir, 'link')
  const folder = join(dir, 'folder')
  await mkdir(folder, { recursive: true })
  await writeFile(join(folder, 'file'), randomBytes(bytes))
  const network = await TestNetwork.create(shape)
  const ends: End[] = []
  const start = async (side: 'a' | 'b', program: string, ...args: string[]): Promise<End> => {
    const end = await End.startBehind(network.on(side), program, ...args)
    ends.push(end)
    return end
  }
  try {
    const dht = await start('a', DHT, network.address('a'))
    const address = z.string().parse(await dht.call('address'))
    const here = await start('a', OUR_END, 'here', join(dir, 'here'), address)
    const there = await start('b', OUR_END, 'there', join(dir, 'there'), address)
    await here.call('add', 'p', folder)
    await here.call('suspend', 'p')
    const invite = z.string().parse(await here.call('invite', 'p'))
    const arriving = there.call('arrive', 'p')
    await there.call('join', 'p', invite)
    const { seconds, share } = Arrived.parse(await arriving)
    return { wall: seconds, ofLink: (share * bytes * 8) / (shape.mbit * 1e6) / seconds }
  } finally {
    for (const end of ends.toReversed()) await end.stop()
    await network.close()
    await rm(dir, { recursive: true })
  }
}
