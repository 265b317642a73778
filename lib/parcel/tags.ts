import { MAX_TAG_NUMBER, type Tag } from '../format/meta-record.js'
import type { Counts, Where } from './history.js'

/** Names that are kept here; one more is not heeded. */
const MOST = 4_096
/** What is kept of all that was said of one name. */
const MOST_SAID = 64

interface Said extends Where {
  tag: Tag
  /** In hex. */
  host: string
}

/**
 * Names for versions, given and taken away by any host that may make versions. No clock decides
 * which word is the last: each says a greater number than all that it has heard of.
 */
export class Tags {
  readonly #counts: Counts
  /** By name; the last counts. */
  readonly #said = new Map<string, Said[]>()

  constructor(counts: Counts) {
    this.#counts = counts
  }

  /** Takes in what `host`, in hex, says in its log. */
  add(tag: Tag, host: string, { core, index }: Where): void {
    const all = this.#said.get(tag.name) ?? []
    if (all.length === 0 && this.#said.size >= MOST) return
    this.#said.set(tag.name, all)
    all.push({ tag, host, core, index })
    all.sort((a, b) => a.tag.number - b.tag.number || (a.host < b.host ? -1 : 1))
    if (all.length > MOST_SAID) all.shift()
  }

  /** The version that has a name; null when none has. */
  get(name: string): Buffer | null {
    return this.#last(name)?.version ?? null
  }

  /** Names in the order of the alphabet, each with the version that has it. */
  list(): { name: string; version: Buffer }[] {
    return [...this.#said.keys()].toSorted().flatMap((name) => {
      const version = this.get(name)
      return version === null ? [] : [{ name, version }]
    })
  }

  /** The names of a version. */
  of(version: Buffer): string[] {
    return this.list().flatMap((tag) => (tag.version.equals(version) ? [tag.name] : []))
  }

  /** What has to be said for a name to be given, or taken away. */
  next(name: string, version: Buffer | null): Tag {
    const number = (this.#last(name)?.number ?? 0) + 1
    return { name, version, number: Math.min(number, MAX_TAG_NUMBER) }
  }

  #last(name: string): Tag | undefined {
    return this.#said
      .get(name)
      ?.findLast(({ host, core, index }) => this.#counts(host, core, index))?.tag
  }
}
