import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { blocksOf, type BlockAt } from '../../lib/parcel/fetch/blocks-of.js'
import { FaultSource } from '../../lib/parcel/fetch/faults.js'
import { blockName } from '../../lib/parcel/commit/trace.js'
import { TestParcel } from './parcels.js'

const SIZES = { config: 2_000, disk: 3_000_000, memory: 700_000, other: 1_500_000 }
type Name = keyof typeof SIZES

test('what the next start wants comes first, then memory and what is small, then disks, then other files', async (t) => {
  const host = await TestParcel.create(t)
  for (const [name, size] of Object.entries(SIZES)) {
    await writeFile(join(host.folder, name), randomBytes(size))
  }
  const roles = { memory: 'memory', disk: 'disk', config: 'config', other: 'file' } as const
  const { id, version } = await host.commit({}, host.folder, { roles })
  const places = host.parcel.history.places(id)
  /** Blocks in the order of their first mention. */
  const order = async (wanted: readonly Name[], first: readonly BlockAt[]): Promise<string[]> => {
    const traced = first.map((at) => ({ ...at, size: 0, isPacked: false }))
    const blocks = blocksOf({
      version: { ...version, driver: 'qemu' },
      places,
      source: new FaultSource(places, host.parcel.faults, new AbortController().signal),
      trace: { version: id, files: [], touched: [], blocks: traced, first: 0 },
      isWanted: ({ entry }) => wanted.some((name) => name === entry.path.toString()),
      isNew: () => true
    })
    const names = new Set<string>()
    for await (const batch of blocks) for (const at of batch) names.add(blockName(at))
    return [...names]
  }
  const table = await order([], [])
  const all: Name[] = ['config', 'disk', 'memory', 'other']
  const ofEach = new Map<Name, string[]>()
  for (const name of all) {
    const blocks = await order([name], [])
    ofEach.set(
      name,
      blocks.filter((block) => !table.includes(block))
    )
  }
  const plain = await order(all, [])
  const last = (name: Name): number =>
    Math.max(...(ofEach.get(name) ?? []).map((block) => plain.indexOf(block)))
  /** Of blocks in which there is nothing of what comes before. */
  const first = (name: Name, before: readonly Name[]): number => {
    const shared = new Set(before.flatMap((each) => ofEach.get(each) ?? []))
    const own = (ofEach.get(name) ?? []).filter((block) => !shared.has(block))
    return Math.min(...own.map((block) => plain.indexOf(block)))
  }
  assert.ok(last('memory') < first('disk', ['memory', 'config']), 'memory before disks')
  assert.ok(last('config') < first('disk', ['memory', 'config']), 'what is small before disks')
  assert.ok(last('disk') < first('other', ['memory', 'config', 'disk']), 'disks before files')

  // Two of the disk's that were wanted at once the last time.
  const wanted = (ofEach.get('disk') ?? []).slice(-2).map((name): BlockAt => {
    const [core = 0, block = 0] = name.split('/').map(Number)
    return { core, block }
  })
  const traced = await order(all, wanted)
  assert.deepEqual(traced.slice(0, 2), wanted.map(blockName))
  assert.deepEqual(traced.toSorted(), plain.toSorted())
})
