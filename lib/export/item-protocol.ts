import { HASH_BYTES } from '../format/limits.js'

/*
 * How an image server asks the process that has the store for items, on a unix socket of the home
 * folder. Each message is its length (u32) and a body. The first one each way is JSON: which
 * version of which parcel; its records, or an error. After that, little-endian:
 *
 *   question  kind u8 (READ, CANCEL), number u32, core u32, block u64, ordinal u32, [id of the item, 32 bytes]
 *   answer    kind u8 (PACK, ITEM, ERROR), number u32, the pack's body, the item, or JSON
 */
export const ITEM_SOCKET = 'items.sock'
export const QUESTION = { read: 1, cancel: 2 } as const
export const ANSWER = { pack: 1, item: 2, error: 3 } as const
const QUESTION_BYTES = 21
const ANSWER_BYTES = 5
/** A block, or the JSON of a version record. */
export const MOST_MESSAGE = 8 * 1_048_576

export interface ItemQuestion {
  kind: number
  number: number
  core: number
  block: number
  /** The item's number in its pack. */
  ordinal: number
  id: Buffer | null
}

export function message(body: Buffer, head: Buffer = Buffer.alloc(0)): Buffer {
  const length = Buffer.alloc(4)
  length.writeUInt32LE(head.byteLength + body.byteLength)
  return Buffer.concat([length, head, body])
}

export function encodeQuestion({ kind, number, core, block, ordinal, id }: ItemQuestion): Buffer {
  const bytes = Buffer.alloc(QUESTION_BYTES)
  bytes[0] = kind
  bytes.writeUInt32LE(number, 1)
  bytes.writeUInt32LE(core, 5)
  bytes.writeBigUInt64LE(BigInt(block), 9)
  bytes.writeUInt32LE(ordinal, 17)
  return id === null ? bytes : Buffer.concat([bytes, id])
}

/** null: it is none. */
export function decodeQuestion(bytes: Buffer): ItemQuestion | null {
  const rest = bytes.byteLength - QUESTION_BYTES
  if (rest !== 0 && rest !== HASH_BYTES) return null
  return {
    kind: bytes[0] ?? 0,
    number: bytes.readUInt32LE(1),
    core: bytes.readUInt32LE(5),
    block: Number(bytes.readBigUInt64LE(9)),
    ordinal: bytes.readUInt32LE(17),
    id: rest === 0 ? null : bytes.subarray(QUESTION_BYTES)
  }
}

/** The head of an answer: its bytes follow. */
export function answerHead(kind: number, number: number): Buffer {
  const bytes = Buffer.alloc(ANSWER_BYTES)
  bytes[0] = kind
  bytes.writeUInt32LE(number, 1)
  return bytes
}

export function decodeAnswer(bytes: Buffer): { kind: number; number: number; body: Buffer } | null {
  if (bytes.byteLength < ANSWER_BYTES) return null
  return {
    kind: bytes[0] ?? 0,
    number: bytes.readUInt32LE(1),
    body: bytes.subarray(ANSWER_BYTES)
  }
}

/** The next message; null when the other side has hung up. */
export async function takeMessage(incoming: {
  take(count: number): Promise<Buffer | null>
}): Promise<Buffer | null> {
  const length = (await incoming.take(4))?.readUInt32LE(0)
  return length === undefined || length > MOST_MESSAGE ? null : incoming.take(length)
}
