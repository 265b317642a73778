import { ParcelError } from '../errors.js'
import type { Place } from '../format/entry.js'
import { decodePack, rawLength } from '../format/pack.js'
import { decompress } from './compress.js'

interface OpenedPack {
  lengths: number[]
  starts: number[]
  raw: Buffer
}

/**
 * Packs that were opened lately, kept for the neighbours of what was wanted. What it gives is a
 * view into a pack, not yet checked against the id that the caller wants: images do that.
 */
export class OpenedPacks {
  readonly #most: number
  readonly #packs = new Map<string, Promise<OpenedPack>>()

  constructor(most: number) {
    this.#most = most
  }

  has({ core, block }: Pick<Place, 'core' | 'block'>): boolean {
    return this.#packs.has(nameOf(core, block))
  }

  /** An item of a pack whose body `load` gives when it is not here. Throws INTEGRITY, and what `load` throws. */
  async read(place: Place, load: () => Promise<Buffer>): Promise<Buffer> {
    const { lengths, starts, raw } = await this.#pack(place, load)
    const [length, start] = [lengths[place.ordinal], starts[place.ordinal]]
    if (length === undefined || start === undefined) {
      throw new ParcelError('INTEGRITY', `a place names item ${place.ordinal} of a smaller pack`)
    }
    return raw.subarray(start, start + length)
  }

  #pack({ core, block }: Place, load: () => Promise<Buffer>): Promise<OpenedPack> {
    const name = nameOf(core, block)
    const known = this.#packs.get(name)
    this.#packs.delete(name)
    const pack = known ?? load().then(open)
    this.#packs.set(name, pack)
    if (known === undefined) {
      pack.catch(() => this.#packs.get(name) === pack && this.#packs.delete(name))
      const oldest = this.#packs.size > this.#most ? this.#packs.keys().next().value : undefined
      if (oldest !== undefined) this.#packs.delete(oldest)
    }
    return pack
  }
}

async function open(body: Buffer): Promise<OpenedPack> {
  const { codec, items, frame } = decodePack(body)
  const raw = await decompress(codec, frame, rawLength(items))
  let end = 0
  const lengths = items.map(({ length }) => length)
  const starts = lengths.map((length) => (end += length) - length)
  return { lengths, starts, raw }
}

function nameOf(core: number, block: number): string {
  return `${core}/${block}`
}
