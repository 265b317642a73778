import type { Extension } from './extension.js'
import { HASH_BYTES } from './limits.js'

/** What a lease record says in its extensions, all of them optional. */
export interface LeaseDetails {
  /** Its author takes the lease although nobody has agreed. */
  isForced: boolean
  /** It is a vote: who has one, in ascending order; empty: it is none. */
  voters: Buffer[]
  /** Versions besides the one in the record that its holder goes on from: heads of other branches. */
  heads: Buffer[]
}

const FORCED = 1
const VOTERS = 2
const HEADS = 3
/** More are not read. */
export const MAX_VOTERS = 128
export const MAX_LEASE_HEADS = 64

export function leaseExtensions({ isForced, voters, heads }: LeaseDetails): Extension[] {
  const all: Extension[] = []
  if (isForced) all.push({ tag: FORCED, critical: false, value: Buffer.alloc(0) })
  if (voters.length > 0) all.push({ tag: VOTERS, critical: false, value: Buffer.concat(voters) })
  if (heads.length > 0) all.push({ tag: HEADS, critical: false, value: Buffer.concat(heads) })
  return all
}

/** What is not well made counts as not said. */
export function leaseDetails(extensions: readonly Extension[]): LeaseDetails {
  const valueOf = (tag: number): Buffer | null =>
    extensions.find((extension) => extension.tag === tag)?.value ?? null
  return {
    isForced: valueOf(FORCED) !== null,
    voters: keysIn(valueOf(VOTERS), MAX_VOTERS) ?? [],
    heads: keysIn(valueOf(HEADS), MAX_LEASE_HEADS) ?? []
  }
}

function keysIn(bytes: Buffer | null, most: number): Buffer[] | null {
  const count = (bytes?.byteLength ?? 0) / HASH_BYTES
  if (bytes === null || !Number.isInteger(count) || count > most) return null
  return Array.from({ length: count }, (_, n) =>
    bytes.subarray(n * HASH_BYTES, (n + 1) * HASH_BYTES)
  )
}
