/** What a vector file holds: JSON alone, byte strings in hex, integers beyond 53 bits as text. */
export type Json = string | number | boolean | null | Json[] | { [name: string]: Json }

export interface VectorFile {
  about: string
  cases: { [name: string]: Json }[]
}

export function plain(value: unknown): Json {
  if (value === null || typeof value === 'string' || typeof value === 'boolean') return value
  if (typeof value === 'number') return value
  if (typeof value === 'bigint') return String(value)
  if (value instanceof Uint8Array) return Buffer.from(value).toString('hex')
  if (Array.isArray(value)) return value.map(plain)
  if (typeof value !== 'object') throw new TypeError(`${typeof value} in a vector`)
  return Object.fromEntries(Object.entries(value).map(([name, each]) => [name, plain(each)]))
}

/** Counting bytes: distinct for each use, and easy to see in a dump. */
export function count(first: number, length = 32): Buffer {
  return Buffer.from(Array.from({ length }, (_, i) => (first + i) & 0xff))
}
