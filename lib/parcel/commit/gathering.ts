import type { Place } from '../../format/entry.js'
import type { PackWriter, Stream } from '../../log/pack-writer.js'

/** What a file is stored through. */
export type ItemWriter = Pick<PackWriter, 'find' | 'put' | 'putSegment' | 'ready' | 'add'>

/**
 * Stores what a resume reads before all else beside what it wants first, also when it is somewhere
 * already: there, with other things around it, a small file would be a long way.
 */
export class Gathering implements ItemWriter {
  readonly #writer: PackWriter
  readonly #isPacked: (place: Place) => boolean

  constructor(writer: PackWriter, isPacked: (place: Place) => boolean) {
    this.#writer = writer
    this.#isPacked = isPacked
  }

  async find(ids: readonly (Buffer | null)[]): Promise<(Place | Promise<Place> | null)[]> {
    const found = await this.#writer.find(ids)
    return found.map((place) => {
      const isKnown = place !== null && !(place instanceof Promise) && this.#isPacked(place)
      return isKnown ? place : null
    })
  }

  put(stream: Stream, id: Buffer, bytes: Buffer): Place | Promise<Place> {
    const isPage = stream === 'ids' || stream === 'places'
    return this.#writer.put(isPage ? stream : 'working', id, bytes)
  }

  putSegment(): null {
    return null
  }

  async add(stream: Stream, id: Buffer, bytes: Buffer): Promise<Place> {
    const [known] = await this.find([id])
    return known ?? this.put(stream, id, bytes)
  }

  ready(): Promise<void> {
    return this.#writer.ready()
  }
}
