import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { z } from 'zod'
import { End } from '../bench/across/end.js'
import { OUR_END } from '../bench/across/our-end.js'
import { onEnd } from '../support/on-end.js'
import { scratch } from '../support/scratch.js'
import { TestNetwork } from './test-network.js'

const DHT = fileURLToPath(new URL('../bench/link/dht-process.js', import.meta.url))
const missing = TestNetwork.missing()

test(
  'a parcel crosses a slow, lossy wire that is cut on the way',
  { skip: missing ?? false, timeout: 120_000 },
  async (t) => {
    const dir = await scratch(t)
    const folder = join(dir, 'folder')
    await mkdir(folder)
    const contents = randomBytes(12_000_000)
    await writeFile(join(folder, 'file'), contents)
    const network = await TestNetwork.create({ mbit: 20, rttMs: 40, loss: 0.002 })
    onEnd(t, () => network.close())
    const start = async (side: 'a' | 'b', program: string, ...args: string[]): Promise<End> => {
      const end = await End.startBehind(network.on(side), program, ...args)
      onEnd(t, () => end.stop())
      return end
    }
    const dht = await start('a', DHT, network.address('a'))
    const address = z.string().parse(await dht.call('address'))
    const here = await start('a', OUR_END, 'here', join(dir, 'here'), address)
    const there = await start('b', OUR_END, 'there', join(dir, 'there'), address)
    await here.call('add', 'p', folder)
    await here.call('suspend', 'p')
    await there.call('join', 'p', z.string().parse(await here.call('invite', 'p')))
    // 12 MB take five seconds: it is under way when the wire is cut.
    await setTimeout(2_000)
    network.cut(true)
    await setTimeout(3_000)
    network.cut(false)
    await there.call('newest', 'p')
    await there.call('resume', 'p', join(dir, 'to'))
    assert.ok((await readFile(join(dir, 'to', 'file'))).equals(contents))
  }
)
