import { Reader, Writer } from './codec.js'
import { HASH_BYTES, MAX_CORE_SIGNATURE } from './limits.js'
import { MAX_ASKED, type ProofNode } from './recipe.js'

/** What a log's writer has signed last, as a host that has the log shows it to the writer. */
export interface SignedState {
  fork: number
  length: number
  /** Roots of the log's Merkle tree, ascending. */
  roots: ProofNode[]
  signature: Buffer
  /** Tree hash of the log at the length that was asked about, or at its own if that is less. */
  asked: Buffer
}

const MAX_ROOTS = 48
const MAX_INDEX = 2 ** 40

/** One state or null for each log asked about. */
export function encodeStates(states: readonly (SignedState | null)[]): Buffer {
  const writer = new Writer(256)
  writer.list(states, (state) => {
    if (state === null) {
      writer.u8(0)
      return
    }
    writer.u8(1).varint(state.fork).varint(state.length)
    writer.list(state.roots, ({ index, size, hash }) => {
      writer.varint(index).varint(size).fixed(hash, HASH_BYTES)
    })
    writer.sized(state.signature).fixed(state.asked, HASH_BYTES)
  })
  return Buffer.from(writer.bytes())
}

/** Throws INTEGRITY. */
export function decodeStates(bytes: Uint8Array): (SignedState | null)[] {
  const reader = new Reader(bytes, 'states')
  const states = reader.list(MAX_ASKED, () => (reader.u8() === 0 ? null : readState(reader)))
  reader.end()
  return states
}

function readState(reader: Reader): SignedState {
  const fork = reader.varint(MAX_INDEX)
  const length = reader.varint(MAX_INDEX)
  const roots = reader.list(MAX_ROOTS, () => ({
    index: reader.varint(2 * MAX_INDEX),
    size: reader.varint(),
    hash: Buffer.from(reader.fixed(HASH_BYTES))
  }))
  const signature = Buffer.from(reader.sized(MAX_CORE_SIGNATURE))
  return { fork, length, roots, signature, asked: Buffer.from(reader.fixed(HASH_BYTES)) }
}
