import { join } from 'node:path'
import { z } from 'zod'
import { readSealed, writeSealed } from '../keys/at-rest.js'
import type { Home } from '../home.js'

const FILE = 'removed'
const schema = z.array(z.string()).max(4_096)

/** Ids, in hex, of parcels that were taken off this host: they do not come back by themselves. */
export class Removed {
  readonly #home: Home
  #ids: Promise<Set<string>> | null = null

  constructor(home: Home) {
    this.#home = home
  }

  async has(parcel: Buffer): Promise<boolean> {
    return (await this.#read()).has(parcel.toString('hex'))
  }

  async add(parcel: Buffer): Promise<void> {
    const ids = await this.#read()
    ids.add(parcel.toString('hex'))
    await this.#save(ids)
  }

  /** It was joined again. */
  async delete(parcel: Buffer): Promise<void> {
    const ids = await this.#read()
    if (ids.delete(parcel.toString('hex'))) await this.#save(ids)
  }

  get #path(): string {
    return join(this.#home.dir, FILE)
  }

  #read(): Promise<Set<string>> {
    this.#ids ??= readSealed(this.#path, this.#home.identity.atRest).then(
      (bytes) => new Set(schema.parse(JSON.parse(bytes.toString()))),
      () => new Set()
    )
    return this.#ids
  }

  async #save(ids: ReadonlySet<string>): Promise<void> {
    const bytes = Buffer.from(JSON.stringify([...ids].slice(-4_096)))
    await writeSealed(this.#path, this.#home.identity.atRest, bytes)
  }
}
