import { readFile, rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'

/** Chunks that a machine used, in the order of their first use, by file. */
export interface Touched {
  files: string[]
  /** Number of the file, number of the chunk. */
  touched: [number, number][]
}

const FILE = 'working-set.json'
const schema = z.object({
  files: z.array(z.string()),
  touched: z.array(z.tuple([z.number().int().min(0), z.number().int().min(0)]))
})

/** With fewer new chunks than this in so many ms, a guest has settled. */
const FEW = 8
const SPAN = 10_000
/** What comes later than this is use, not resume, ms. */
const LONGEST = 120_000
const MOST = 65_536

/** Watches what a resumed machine reads for the first time, until it has settled. */
export class WorkingSet {
  readonly #known: ReadonlyMap<string, ReadonlySet<number>>
  readonly #seen = new Map<string, Set<number>>()
  readonly #touched: [number, number][] = []
  readonly #files: string[] = []
  readonly #started = performance.now()
  #window = { since: performance.now(), count: 0 }
  #isSettled = false
  /** Of the chunks that were used, those that were known to be before. */
  covered = 0

  /** `known`: what the version says will be used. */
  constructor(known: Touched | null) {
    const byFile = new Map<string, Set<number>>()
    for (const [file, chunk] of known?.touched ?? []) {
      const path = known?.files[file] ?? ''
      byFile.set(path, (byFile.get(path) ?? new Set()).add(chunk))
    }
    this.#known = byFile
  }

  /** How many chunks were used. */
  get used(): number {
    return this.#touched.length
  }

  /** How many were known to be used. */
  get known(): number {
    return [...this.#known.values()].reduce((sum, { size }) => sum + size, 0)
  }

  touch(path: string, chunk: number): void {
    if (this.#isSettled) return
    const seen = this.#seen.get(path) ?? new Set()
    this.#seen.set(path, seen)
    if (seen.has(chunk) || this.#settles()) return
    seen.add(chunk)
    let file = this.#files.indexOf(path)
    if (file === -1) file = this.#files.push(path) - 1
    this.#touched.push([file, chunk])
    if (this.#known.get(path)?.has(chunk) === true) this.covered++
  }

  /** Leaves it beside the overlays, for who makes the next version. */
  async save(overlays: string): Promise<void> {
    const text = JSON.stringify({ files: this.#files, touched: this.#touched })
    await writeFile(join(overlays, `${FILE}.tmp`), text, { mode: 0o600 })
    await rename(join(overlays, `${FILE}.tmp`), join(overlays, FILE))
  }

  #settles(): boolean {
    const now = performance.now()
    const isOver = now - this.#started > LONGEST || this.#touched.length >= MOST
    const { since, count } = this.#window
    this.#isSettled = isOver || (now - since > SPAN && count < FEW)
    if (now - since > SPAN) this.#window = { since: now, count: 0 }
    this.#window.count++
    return this.#isSettled
  }
}

/** What the last machine with these overlays used; null when nobody watched, or it is damaged. */
export async function readWorkingSet(overlays: string): Promise<Touched | null> {
  const text = await readFile(join(overlays, FILE), 'utf8').catch(() => null)
  if (text === null) return null
  try {
    return schema.parse(JSON.parse(text))
  } catch {
    return null
  }
}
