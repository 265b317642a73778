import { MAX_TAG_NUMBER, type Tag } from '../format/meta-record.js'
import { isLabel } from '../names.js'
import type { Counts, Where } from './history.js'

/** Names that are heeded of one host, and how often it can say something anew of each. */
const [MOST_NAMES, MOST_SAID] = [1_024, 8]

interface Said extends Where {
  tag: Tag
  /** In hex. */
  host: string
}

/**
 * Names for versions, given and taken away by any host that may make versions. No clock decides
 * which word is the last: each says a greater number than all that it has heard of. What one host
 * says takes no room from what another one says.
 */
export class Tags {
  readonly #counts: Counts
  /** By host, then by name, ascending. */
  readonly #said = new Map<string, Map<string, Said[]>>()
  /** What counts of it, as long as nothing changes. */
  #valid: Map<string, Tag> | null = null
  #names: Map<string, string[]> | null = null

  constructor(counts: Counts) {
    this.#counts = counts
  }

  /** Takes in what `host`, in hex, says in its log. What is no name for a version is not heeded. */
  add(tag: Tag, host: string, { core, index }: Where): void {
    if (!isLabel(tag.name)) return
    const byName = this.#said.get(host) ?? new Map<string, Said[]>()
    this.#said.set(host, byName)
    const all = byName.get(tag.name) ?? []
    if (all.length === 0 && byName.size >= MOST_NAMES) return
    byName.set(tag.name, all)
    all.push({ tag, host, core, index })
    all.sort(inOrder)
    if (all.length > MOST_SAID) all.shift()
    this.judge()
  }

  /** Looks anew what counts: who may write has changed. */
  judge(): void {
    this.#valid = null
    this.#names = null
  }

  /** The version that has a name; null when none has. */
  get(name: string): Buffer | null {
    return this.#all().get(name)?.version ?? null
  }

  /** Names in the order of the alphabet, each with the version that has it. */
  list(): { name: string; version: Buffer }[] {
    return [...this.#all().values()]
      .flatMap(({ name, version }) => (version === null ? [] : [{ name, version }]))
      .toSorted((a, b) => (a.name < b.name ? -1 : 1))
  }

  /** The names of a version. */
  of(version: Buffer): readonly string[] {
    if (this.#names === null) {
      this.#names = new Map()
      for (const { name, version: id } of this.list()) {
        const key = id.toString('hex')
        this.#names.set(key, [...(this.#names.get(key) ?? []), name])
      }
    }
    return this.#names.get(version.toString('hex')) ?? []
  }

  /** What has to be said for a name to be given, or taken away. */
  next(name: string, version: Buffer | null): Tag {
    const number = (this.#all().get(name)?.number ?? 0) + 1
    return { name, version, number: Math.min(number, MAX_TAG_NUMBER) }
  }

  #all(): Map<string, Tag> {
    if (this.#valid !== null) return this.#valid
    const last = new Map<string, Said>()
    for (const byName of this.#said.values()) {
      for (const [name, all] of byName) {
        const said = all.findLast(({ host, core, index }) => this.#counts(host, core, index))
        const known = last.get(name)
        if (said !== undefined && (known === undefined || isLater(said, known)))
          last.set(name, said)
      }
    }
    this.#valid = new Map([...last].map(([name, { tag }]) => [name, tag]))
    return this.#valid
  }
}

/** A host that was put back says another thing under a number that it had used: all must take the same one. */
function inOrder({ tag: a }: Said, { tag: b }: Said): number {
  const none = Buffer.alloc(0)
  return a.number - b.number || Buffer.compare(a.version ?? none, b.version ?? none)
}

function isLater(a: Said, b: Said): boolean {
  return (a.tag.number - b.tag.number || (a.host < b.host ? -1 : 1)) > 0
}
