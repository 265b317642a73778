import { ParcelError } from '../errors.js'
import type { Place } from '../format/entry.js'
import { printable } from '../format/file-table.js'
import { MAX_TRACE_BLOCKS, MAX_TRACE_CHUNKS, MAX_TRACE_FILES } from '../format/limits.js'
import type { Places, Trace } from '../format/meta-record.js'
import type { Version } from '../format/version.js'
import { contents, type Content } from '../image/contents.js'
import type { ItemSource } from '../image/items.js'
import { TreeLookup } from '../image/tree-lookup.js'
import { leaves } from '../image/tree-reader.js'

/** What a resumed machine used, in order: files by path, and [file, chunk]. */
export interface Used {
  files: readonly string[]
  touched: readonly (readonly [number, number])[]
}

export interface TraceOptions {
  version: Version
  places: Places
  /** Items that are here. */
  source: ItemSource
  used: Used
  /** Blocks that were packed for it, as `blockName` has them. */
  packed: ReadonlySet<string>
  /** Files that a resume writes before the machine starts. */
  isNeeded: (content: Content) => boolean
}

export function blockName({ core, block }: Pick<Place, 'core' | 'block'>): string {
  return `${core}/${block}`
}

/**
 * The blocks of a version in the order in which a resume will want them: the file table, the files
 * that it needs whole, then the working set chunk by chunk with the pages that lead to it. Only of
 * what is here; the rest is in the blocks that came with it.
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
  const files = new Map<string, TreeLookup>()
  const needed: Content[] = []
  for await (const content of contents(source, version, places)) {
    const { entry, place } = content
    if (entry.type !== 'file') continue
    if (isNeeded(content)) needed.push(content)
    else files.set(printable(entry.path), new TreeLookup(source, { ...entry, place }))
  }
  for (const { entry, place } of needed) {
    if (entry.type !== 'file') continue
    for await (const leaf of leaves(source, { ...entry, place })) {
      for (const { places } of leaf.entries ?? []) places.forEach(note)
    }
  }
  const names = used.files.slice(0, MAX_TRACE_FILES)
  const touched: Trace['touched'] = []
  for (const [file, chunk] of used.touched.slice(0, MAX_TRACE_CHUNKS)) {
    const entry = await entryAt(files.get(names[file] ?? ''), chunk)
    if (entry === null || entry.places.length === 0) continue
    entry.places.forEach(note)
    touched.push({ file, chunk })
  }
  const blocks = [...order].map(([name, at]) => ({ ...at, isPacked: packed.has(name) }))
  return { files: names.map((name) => Buffer.from(name)), touched, blocks }
}

async function entryAt(
  tree: TreeLookup | undefined,
  chunk: number
): Promise<{ places: Place[] } | null> {
  try {
    return (await tree?.entry(chunk)) ?? null
  } catch (error) {
    if (error instanceof ParcelError && error.code === 'UNREACHABLE') return null
    throw error
  }
}
