import { Reader, Writer } from './codec.js'
import { HASH_BYTES } from './limits.js'

/** How far a suspend is that another host has asked for. */
export type RemoteSuspendState =
  /** `left` ms until it begins. */
  | { state: 'waiting'; left: number }
  | { state: 'suspending' }
  | { state: 'done'; version: Buffer }
  /** `code` of the error: FORBIDDEN for who may not ask, INTERRUPTED when its user has refused. */
  | { state: 'failed'; code: string }

const STATES = ['failed', 'waiting', 'suspending', 'done'] as const
const MAX_CODE = 64
/** So long a user may be given to refuse, ms. */
export const MAX_GRACE = 3_600_000

export function encodeRemoteSuspend(answer: RemoteSuspendState): Buffer {
  const writer = new Writer(64).u8(STATES.indexOf(answer.state))
  if (answer.state === 'waiting') writer.varint(answer.left)
  if (answer.state === 'done') writer.fixed(answer.version, HASH_BYTES)
  if (answer.state === 'failed') writer.text(answer.code, MAX_CODE)
  return Buffer.from(writer.bytes())
}

/** Throws INTEGRITY. */
export function decodeRemoteSuspend(bytes: Uint8Array): RemoteSuspendState {
  const reader = new Reader(bytes, 'answer')
  const state = STATES[reader.u8()] ?? reader.fail('its state is unknown')
  const answer = read(state, reader)
  reader.end()
  return answer
}

function read(state: (typeof STATES)[number], reader: Reader): RemoteSuspendState {
  if (state === 'waiting') return { state, left: reader.varint(MAX_GRACE) }
  if (state === 'done') return { state, version: Buffer.from(reader.fixed(HASH_BYTES)) }
  if (state === 'failed') return { state, code: reader.text(MAX_CODE) }
  return { state }
}
