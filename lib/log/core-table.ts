import { ParcelError } from '../errors.js'
import { CORE_PREFIX } from './chunk-index.js'

/** The `data` cores that a version's places number. It only ever grows at its end, so numbers stay good. */
export class CoreTable {
  readonly #keys: Buffer[] = []
  readonly #numbers = new Map<string, number>()

  constructor(keys: readonly Buffer[] = []) {
    for (const key of keys) this.number(key)
  }

  get keys(): readonly Buffer[] {
    return this.#keys
  }

  /** The number of a core, adding it if it is new. */
  number(key: Buffer): number {
    const known = this.find(key)
    if (known !== null) return known
    this.#numbers.set(prefix(key), this.#keys.length)
    return this.#keys.push(key) - 1
  }

  /** The number of a core by its whole key or the first bytes of it; null if it is not in the table. */
  find(key: Buffer): number | null {
    return this.#numbers.get(prefix(key)) ?? null
  }

  key(number: number): Buffer {
    const key = this.#keys[number]
    if (key === undefined) {
      throw new ParcelError(
        'INTEGRITY',
        `a place names core ${number}, which its table does not have`
      )
    }
    return key
  }
}

function prefix(key: Buffer): string {
  return key.toString('hex', 0, CORE_PREFIX)
}
