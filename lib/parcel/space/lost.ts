import { printable } from '../../format/file-table.js'
import type { Place } from '../../format/entry.js'
import { contents } from '../../image/contents.js'
import { lossyLeaves, orLost } from '../../image/lossy-leaves.js'
import type { Subtree } from '../../image/tree-reader.js'
import { CoreTable } from '../../log/core-table.js'
import type { Known } from '../history.js'
import type { LogSet } from '../logs/log-set.js'
import { addChunks, type Ranges } from '../ranges.js'
import { packsOf } from '../version-packs.js'
import type { Block } from './verify.js'

/** What a version lacks because of blocks that nobody has sent. */
export interface Loss {
  version: string
  /** null: its list of files itself cannot be read whole. */
  path: string | null
  ranges: Ranges
}

/** Which versions, files and ranges of them need blocks that are lost. */
export async function* losses(set: LogSet, lost: readonly Block[]): AsyncGenerator<Loss> {
  if (lost.length === 0) return
  const blocks = new Map<string, Set<number>>()
  for (const { log, index } of lost) {
    const core = log.key.toString('hex')
    blocks.set(core, (blocks.get(core) ?? new Set()).add(index))
  }
  // Versions share most of their pages.
  const clean = new Set<string>()
  for (const known of set.history.list()) yield* lossesOf(set, known, blocks, clean)
}

async function* lossesOf(
  set: LogSet,
  { id, version }: Known,
  blocks: ReadonlyMap<string, ReadonlySet<number>>,
  clean: Set<string>
): AsyncGenerator<Loss> {
  const name = id.toString('hex')
  const isNear = set.history
    .coresOf(id)
    .some(({ key, length }) =>
      [...(blocks.get(key.toString('hex')) ?? [])].some((index) => index < length)
    )
  if (!isNear || !set.history.isPlaced(id)) return
  const places = set.history.places(id)
  const source = packsOf(new CoreTable(places.cores), set)
  const coreOf = ({ core }: Place): string => places.cores[core]?.toString('hex') ?? ''
  const isLost = (at: Place): boolean => blocks.get(coreOf(at))?.has(at.block) === true
  const all = contents(source, version, places)
  for (;;) {
    const next = await orLost(all.next())
    if (next === null) {
      yield { version: name, path: null, ranges: [] }
      return
    }
    if (next.done === true) return
    const { entry, place } = next.value
    if (entry.type !== 'file') continue
    const { size, root } = entry
    const ranges: Ranges = []
    const seen: string[] = []
    const skip = ({ hash, place: at }: Subtree): boolean => {
      if (hash === null || at === null) return hash === null
      // By where it is: the same chunks can be in other places.
      const page = `${coreOf(at)} ${at.block} ${at.ordinal}`
      if (clean.has(page)) return true
      seen.push(page)
      return false
    }
    for await (const leaf of lossyLeaves(source, { size, root, place }, skip)) {
      if (leaf.entries === 'lost') addChunks(ranges, leaf.first, leaf.count, size)
      else
        for (const [i, one] of (leaf.entries ?? []).entries()) {
          if (one.places.some(isLost)) addChunks(ranges, leaf.first + i, 1, size)
        }
    }
    if (ranges.length === 0) for (const page of seen) clean.add(page)
    else yield { version: name, path: printable(entry.path), ranges }
  }
}
