import { nullIfElsewhere } from '../../errors.js'
import type { Place } from '../../format/entry.js'
import { printable, type FileRole } from '../../format/file-table.js'
import {
  CHUNK_SIZE,
  MAX_TRACE_BLOCKS,
  MAX_TRACE_CHUNKS,
  MAX_TRACE_FILES
} from '../../format/limits.js'
import type { Places, Trace } from '../../format/meta-record.js'
import type { Version } from '../../format/version.js'
import { bitCount } from '../../image/chunk-pages.js'
import { contents, type Content } from '../../image/contents.js'
import type { ItemSource } from '../../image/items.js'
import { TreeLookup } from '../../image/tree-lookup.js'
import { leaves, patchesOf, type LeafEntry } from '../../image/tree-reader.js'

/** Of what it used: so many pages of memory it should not start without. */
const FIRST_PAGES = 4_096
/** Chunks that a monitor looks into before it starts the machine. */
const OPENING = 16
/** So many blocks with other pages of the chunks that it used are fetched after those, at most. */
const MOST_BESIDE = 1_024

/** What a resumed machine used, in order: files by path, and [file, chunk, mask of its pages]. */
export interface Used {
  files: readonly string[]
  touched: readonly (readonly [number, number, number])[]
}

export interface TraceOptions {
  version: Version
  places: Places
  /** Items that are here. */
  source: ItemSource
  used: Used
  /** Blocks that were packed for it, as `blockName` has them. */
  packed: ReadonlySet<string>
  /** Bytes of a block that is here. */
  sizeOf: (at: Pick<Place, 'core' | 'block'>) => Promise<number>
  /** Files that a resume writes before the machine starts. */
  isNeeded: (content: Content) => boolean
}

export function blockName({ core, block }: Pick<Place, 'core' | 'block'>): string {
  return `${core}/${block}`
}

/**
 * The blocks of a version in the order in which a resume will want them: the file table, the files
 * that it needs whole, then the working set chunk by chunk with the pages that lead to it, then
 * what else was written to its chunks of memory, and what is under that. Only of what is here; the rest
 * is in the blocks that came with it.
 */
export async function traceOf(options: TraceOptions): Promise<Omit<Trace, 'version'>> {
  const { version, places, used, packed, isNeeded } = options
  const order = new Map<string, Pick<Place, 'core' | 'block'>>()
  const note = ({ core, block }: Place): void => {
    const name = blockName({ core, block })
    if (!order.has(name) && order.size < MAX_TRACE_BLOCKS) order.set(name, { core, block })
  }
  const source: ItemSource = {
    read(place, id) {
      note(place)
      return options.source.read(place, id)
    }
  }
  const files = new Map<string, { tree: TreeLookup; role: FileRole }>()
  const needed: Content[] = []
  for await (const content of contents(source, version, places)) {
    const { entry, place } = content
    if (entry.type !== 'file') continue
    if (isNeeded(content)) needed.push(content)
    else {
      const tree = new TreeLookup(source, { ...entry, place })
      files.set(printable(entry.path), { tree, role: entry.role })
    }
  }
  for (const { entry, place } of needed) {
    if (entry.type !== 'file') continue
    for await (const leaf of leaves(source, { ...entry, place })) {
      for (const { places } of leaf.entries ?? []) places.forEach(note)
    }
  }
  let first = 0
  let count = 0
  const names = used.files.slice(0, MAX_TRACE_FILES)
  const touched: Trace['touched'] = []
  const beside: LeafEntry[] = []
  for (const [file, chunk, pages] of memoryFirst(used.touched, names, files).slice(
    0,
    MAX_TRACE_CHUNKS
  )) {
    const entry = await entryAt(files.get(names[file] ?? '')?.tree, chunk)
    if (entry === null || entry.places.length === 0) continue
    const { patches, rest } = patchesOf(entry.entry, pages)
    for (const item of [...(rest === 0 ? [] : [0]), ...patches.map(({ at }) => at + 1)]) {
      const place = entry.places[item]
      if (place !== undefined) note(place)
    }
    touched.push({ file, chunk, pages })
    count += bitCount(pages)
    const isMemory = files.get(names[file] ?? '')?.role === 'memory'
    if (count <= FIRST_PAGES && (isMemory || touched.length <= OPENING)) first = order.size
    if (isMemory) beside.push(entry)
  }
  // A guest's next pages are mostly beside its last ones: in chunks that it wrote to again and again.
  for (const place of await likeliest(beside, options.sizeOf)) note(place)
  const blocks: Trace['blocks'] = []
  for (const [name, at] of order) {
    blocks.push({ ...at, size: await options.sizeOf(at), isPacked: packed.has(name) })
  }
  return { files: names.map((name) => Buffer.from(name)), touched, blocks, first }
}

/** What a trace foretells. */
export function usedOf(trace: Trace | null): Used {
  const files = (trace?.files ?? []).map((path) => path.toString())
  return {
    files,
    touched: (trace?.touched ?? []).map(({ file, chunk, pages }) => [file, chunk, pages])
  }
}

/** How much of what was foretold was used, as a share of its pages; 1 when nothing was. */
export function shareOf(foretold: Used, used: Used): number {
  const pages = new Map<string, number>()
  for (const [file, chunk, mask] of used.touched) {
    const name = `${used.files[file]}/${chunk}`
    pages.set(name, (pages.get(name) ?? 0) | mask)
  }
  let [count, covered] = [0, 0]
  for (const [file, chunk, mask] of foretold.touched) {
    count += bitCount(mask)
    covered += bitCount(mask & (pages.get(`${foretold.files[file]}/${chunk}`) ?? 0))
  }
  return count === 0 ? 1 : covered / count
}

/**
 * What a machine has read from its disk it has in its memory now: after the monitor has opened both,
 * memory is read again and the disk seldom.
 */
function memoryFirst(
  touched: Used['touched'],
  names: readonly string[],
  files: ReadonlyMap<string, { role: FileRole }>
): Used['touched'] {
  const isMemory = ([file]: Used['touched'][number]): boolean =>
    files.get(names[file] ?? '')?.role === 'memory'
  const later = touched.slice(OPENING)
  return [
    ...touched.slice(0, OPENING),
    ...later.filter(isMemory),
    ...later.filter((one) => !isMemory(one))
  ]
}

/**
 * Blocks with other pages of chunks that were used: what was written to them, and what is under that where
 * it was often. First those that have most of it for their size.
 */
async function likeliest(
  chunks: readonly LeafEntry[],
  sizeOf: TraceOptions['sizeOf']
): Promise<Place[]> {
  const found = new Map<string, { place: Place; changes: number }>()
  for (const { places } of chunks) {
    const changes = places.length - 1
    for (const place of changes > 1 ? places : places.slice(1)) {
      const name = blockName(place)
      const known = found.get(name)
      if (known === undefined) found.set(name, { place, changes })
      else known.changes += changes
    }
  }
  const costs: { place: Place; cost: number }[] = []
  for (const { place, changes } of found.values()) {
    const size = (await sizeOf(place)) || CHUNK_SIZE
    costs.push({ place, cost: size / changes })
  }
  return costs
    .toSorted((a, b) => a.cost - b.cost)
    .slice(0, MOST_BESIDE)
    .map(({ place }) => place)
}

async function entryAt(tree: TreeLookup | undefined, chunk: number): Promise<LeafEntry | null> {
  return (await tree?.entry(chunk).catch(nullIfElsewhere)) ?? null
}
