import { rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { bitCount } from '../image/chunk-pages.js'

/** Pages that a machine used, in the order of their first use: number of the file, chunk, mask of its pages. */
export interface Touched {
  files: string[]
  touched: [number, number, number][]
}

/** Beside the overlays, for who makes the next version. */
export const WORKING_SET = 'working-set.json'

/** With fewer new pages than this in so many ms, a guest has settled. */
const FEW = 32
const SPAN = 10_000
/** What comes later than this is use, not resume, ms. */
const LONGEST = 120_000
/** Pages: 64 MiB. */
const MOST = 16_384
/** Of so many pages, the order of chunks is kept, but not that of pages in a chunk. */
const STAGE = 2_048

/** Watches what a resumed machine reads for the first time, until it has settled. */
export class WorkingSet {
  readonly #known: ReadonlyMap<string, ReadonlyMap<number, number>>
  readonly #seen = new Map<string, Map<number, number>>()
  readonly #touched: [number, number, number][] = []
  readonly #files: string[] = []
  /** Where in `touched` the chunks of this stage are. */
  readonly #stage = new Map<string, number>()
  #stagePages = 0
  readonly #started = performance.now()
  #window = { since: performance.now(), count: 0 }
  #isSettled = false
  /** Pages that were used. */
  used = 0
  /** Of them, those that were known to be before. */
  covered = 0
  /** How many were known to be used. */
  readonly known: number

  /** `known`: what the version says will be used. */
  constructor(known: Touched | null) {
    const byFile = new Map<string, Map<number, number>>()
    let count = 0
    for (const [file, chunk, pages] of known?.touched ?? []) {
      const path = known?.files[file] ?? ''
      const chunks = byFile.get(path) ?? new Map<number, number>()
      byFile.set(path, chunks.set(chunk, (chunks.get(chunk) ?? 0) | pages))
      count += bitCount(pages)
    }
    this.#known = byFile
    this.known = count
  }

  /** Takes note of pages of a chunk, as a mask. */
  touch(path: string, chunk: number, pages: number): void {
    if (this.#isSettled) return
    const seen = this.#seen.get(path) ?? new Map<number, number>()
    this.#seen.set(path, seen)
    const before = seen.get(chunk) ?? 0
    const fresh = pages & ~before
    if (fresh === 0) return
    const count = bitCount(fresh)
    if (this.#settles(count)) return
    seen.set(chunk, before | fresh)
    this.#note(path, chunk, fresh, count)
    this.used += count
    this.covered += bitCount(fresh & (this.#known.get(path)?.get(chunk) ?? 0))
  }

  /** Leaves it beside the overlays, for who makes the next version. */
  async save(overlays: string): Promise<void> {
    const text = JSON.stringify({ files: this.#files, touched: this.#touched })
    await writeFile(join(overlays, `${WORKING_SET}.tmp`), text, { mode: 0o600 })
    await rename(join(overlays, `${WORKING_SET}.tmp`), join(overlays, WORKING_SET))
  }

  #note(path: string, chunk: number, pages: number, count: number): void {
    if (this.#stagePages >= STAGE) {
      this.#stage.clear()
      this.#stagePages = 0
    }
    this.#stagePages += count
    let file = this.#files.indexOf(path)
    if (file === -1) file = this.#files.push(path) - 1
    const name = `${file}/${chunk}`
    const at = this.#stage.get(name)
    const one = at === undefined ? undefined : this.#touched[at]
    if (one === undefined) this.#stage.set(name, this.#touched.push([file, chunk, pages]) - 1)
    else one[2] |= pages
  }

  #settles(count: number): boolean {
    const now = performance.now()
    const isOver = now - this.#started > LONGEST || this.used + count > MOST
    const { since, count: lately } = this.#window
    this.#isSettled = isOver || (now - since > SPAN && lately < FEW)
    if (now - since > SPAN) this.#window = { since: now, count: 0 }
    this.#window.count += count
    return this.#isSettled
  }
}
