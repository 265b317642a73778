import { join } from 'node:path'
import { isIP } from 'node:net'
import { z } from 'zod'
import { readSealed, writeSealed } from '../keys/at-rest.js'

export interface Address {
  address: string
  port: number
}

const FILE = 'addresses'
/** Of one host, and of how many hosts. */
const [MOST, MOST_HOSTS] = [4, 1_024]
/** So long what was learnt may be lost with a kill, ms. */
const SOON = 3_000

const port = z.number().int().min(1).max(65_535)
const schema = z.strictObject({
  /** Where this host listened last: others try that again. */
  port: port.nullable(),
  hosts: z.record(
    z.string().regex(/^[0-9a-f]{64}$/),
    z
      .array(z.strictObject({ address: z.string().refine((text) => isIP(text) !== 0), port }))
      .max(MOST)
  )
})

/** Where hosts were reached, the last address first, also in runs before. Nothing depends on it. */
export class Addresses {
  readonly #path: string
  readonly #key: Buffer
  readonly #state: z.infer<typeof schema>
  #timer: NodeJS.Timeout | null = null
  #saving: Promise<void> = Promise.resolve()

  private constructor(path: string, key: Buffer, state: z.infer<typeof schema>) {
    this.#path = path
    this.#key = key
    this.#state = state
  }

  /** Those of before, if they can be read. */
  static async open(home: string, key: Buffer): Promise<Addresses> {
    const path = join(home, FILE)
    const state = await readSealed(path, key)
      .then((bytes) => schema.parse(JSON.parse(bytes.toString())))
      .catch(() => ({ port: null, hosts: {} }))
    return new Addresses(path, key, state)
  }

  get port(): number | null {
    return this.#state.port
  }

  set port(port: number | null) {
    if (this.#state.port === port) return
    this.#state.port = port
    this.#save()
  }

  /** Of a host, in hex. */
  of(host: string): readonly Address[] {
    return this.#state.hosts[host] ?? []
  }

  /** A host, in hex, was reached there. */
  add(host: string, { address, port }: Address): void {
    const { hosts } = this.#state
    const known = hosts[host] ?? []
    if (known[0]?.address === address && known[0].port === port) return
    if (known.length === 0 && Object.keys(hosts).length >= MOST_HOSTS) return
    const others = known.filter((each) => each.address !== address)
    hosts[host] = [{ address, port }, ...others].slice(0, MOST)
    this.#save()
  }

  async close(): Promise<void> {
    if (this.#timer !== null) {
      clearTimeout(this.#timer)
      this.#write()
    }
    await this.#saving
  }

  #save(): void {
    this.#timer ??= setTimeout(() => this.#write(), SOON).unref()
  }

  #write(): void {
    this.#timer = null
    const bytes = Buffer.from(JSON.stringify(this.#state))
    this.#saving = this.#saving
      .then(() => writeSealed(this.#path, this.#key, bytes))
      // What cannot be saved was not needed.
      .catch(() => {})
  }
}
