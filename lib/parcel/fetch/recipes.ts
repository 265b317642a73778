import { compress } from '../../chunk/compress.js'
import { ParcelError } from '../../errors.js'
import { ENVELOPE_BYTES } from '../../format/limits.js'
import { decodePack } from '../../format/pack.js'
import { unpad } from '../../format/padding.js'
import { MAX_ITEMS_RAW, type Question, type Recipe } from '../../format/recipe.js'
import { envelopeOf, openBlock } from '../../keys/seal.js'
import { CoreTable } from '../../log/core-table.js'
import type { Log } from '../../log/log.js'
import type { LogSet } from '../logs/log-set.js'
import { packsOf } from '../version-packs.js'

/** Recipes of blocks that are here, for a member that may have what they are made of. */
export async function recipesFor(
  { core, blocks }: Question & { kind: 'recipes' },
  set: LogSet
): Promise<(Recipe | null)[]> {
  const log = set.get(core)
  if (log === null || log.kind !== 'data') return blocks.map(() => null)
  const recipes: (Recipe | null)[] = []
  for (const { index, nodes } of blocks) recipes.push(await recipeOf(log, index, nodes))
  return recipes
}

/** Items of packs that are here, as one frame; empty when they are not, or are too many. */
export async function itemsFor(
  { core, blocks }: Question & { kind: 'items' },
  set: LogSet
): Promise<Buffer> {
  const log = set.get(core)
  if (log === null || log.kind !== 'data') return Buffer.alloc(0)
  const packs = packsOf(new CoreTable([core]), set)
  const items: Buffer[] = []
  let bytes = 0
  for (const { index, ordinals } of blocks) {
    if (index >= log.length || !log.has(index)) return Buffer.alloc(0)
    for (const ordinal of ordinals) {
      const item = await packs.read({ core: 0, block: index, ordinal })
      bytes += item.byteLength
      if (bytes > MAX_ITEMS_RAW) throw new ParcelError('USAGE', 'more items than an answer holds')
      items.push(item)
    }
  }
  const { codec, frame } = await compress(Buffer.concat(items))
  return Buffer.concat([Buffer.from([codec === 'zstd' ? 1 : 0]), frame])
}

async function recipeOf(log: Log, index: number, nodes: number): Promise<Recipe | null> {
  // The header of a log is no pack.
  if (index === 0 || index >= log.length || !log.has(index) || log.isDropped(index)) return null
  const { block, sealing, fork, nodes: proof } = await log.proof(index, nodes)
  const plain = Buffer.allocUnsafe(block.byteLength - ENVELOPE_BYTES)
  openBlock(block, sealing, log.key, index, plain)
  const { kind, codec, items } = decodePack(unpad(plain))
  return { ...envelopeOf(block), kind, codec, items, fork, proof }
}
