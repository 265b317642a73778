/*
 * The Network Block Device protocol, fixed newstyle, as far as it is spoken here.
 * https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md
 */

export const NBD_MAGIC = Buffer.from('NBDMAGICIHAVEOPT')
export const OPTION_MAGIC = Buffer.from('IHAVEOPT')
const OPTION_REPLY_MAGIC = 0x3e889045565a9n
export const REQUEST_MAGIC = 0x25609513
const SIMPLE_REPLY_MAGIC = 0x67446698
const STRUCTURED_REPLY_MAGIC = 0x668e33ef

export const HANDSHAKE = { fixedNewstyle: 1, noZeroes: 2 } as const
export const OPTION = {
  exportName: 1,
  abort: 2,
  list: 3,
  info: 6,
  go: 7,
  structuredReply: 8,
  listMetaContext: 9,
  setMetaContext: 10
} as const
export const REPLY = { ack: 1, server: 2, info: 3, metaContext: 4 } as const
export const REFUSAL = {
  unsupported: 0x80000001,
  policy: 0x80000002,
  invalid: 0x80000003,
  unknown: 0x80000006,
  tooBig: 0x80000009
} as const
export const INFO = { export: 0, name: 1, blockSize: 3 } as const
export const TRANSMISSION = {
  hasFlags: 1,
  readOnly: 2,
  sendFlush: 4,
  sendFua: 8,
  sendTrim: 32,
  sendWriteZeroes: 64,
  sendDf: 128,
  multiConn: 256,
  sendCache: 1024
} as const
export const COMMAND = {
  read: 0,
  write: 1,
  disconnect: 2,
  flush: 3,
  trim: 4,
  cache: 5,
  writeZeroes: 6,
  blockStatus: 7
} as const
export const COMMAND_FLAG = { fua: 1, noHole: 2, df: 4, reqOne: 8, fastZero: 16 } as const
export const ERROR = {
  permission: 1,
  io: 5,
  noMemory: 12,
  invalid: 22,
  noSpace: 28,
  overflow: 75,
  unsupported: 95,
  shutdown: 108
} as const
/** Flags of the context "base:allocation". */
export const ALLOCATION = { hole: 1, zero: 2 } as const

const DONE = 1
const CHUNK = { none: 0, data: 1, blockStatus: 5, error: 0x8001 } as const

export interface Request {
  flags: number
  type: number
  cookie: bigint
  offset: bigint
  length: number
}

export const REQUEST_BYTES = 28

/** null: it does not begin as a request must. */
export function readRequest(bytes: Buffer): Request | null {
  if (bytes.readUInt32BE(0) !== REQUEST_MAGIC) return null
  return {
    flags: bytes.readUInt16BE(4),
    type: bytes.readUInt16BE(6),
    cookie: bytes.readBigUInt64BE(8),
    offset: bytes.readBigUInt64BE(16),
    length: bytes.readUInt32BE(24)
  }
}

export function optionReply(option: number, type: number, body: Buffer = Buffer.alloc(0)): Buffer {
  const head = Buffer.alloc(20)
  head.writeBigUInt64BE(OPTION_REPLY_MAGIC, 0)
  head.writeUInt32BE(option, 8)
  head.writeUInt32BE(type, 12)
  head.writeUInt32BE(body.byteLength, 16)
  return Buffer.concat([head, body])
}

export function simpleReply(cookie: bigint, error: number): Buffer {
  const head = Buffer.alloc(16)
  head.writeUInt32BE(SIMPLE_REPLY_MAGIC, 0)
  head.writeUInt32BE(error, 4)
  head.writeBigUInt64BE(cookie, 8)
  return head
}

/** The head of a reply with all of the data that was read. */
export function dataReply(cookie: bigint, offset: bigint, length: number): Buffer {
  const head = Buffer.alloc(28)
  structuredHead(head, CHUNK.data, cookie, 8 + length)
  head.writeBigUInt64BE(offset, 20)
  return head
}

export function doneReply(cookie: bigint): Buffer {
  const head = Buffer.alloc(20)
  structuredHead(head, CHUNK.none, cookie, 0)
  return head
}

/** `extents`: bytes and ALLOCATION flags. */
export function statusReply(
  cookie: bigint,
  context: number,
  extents: readonly [number, number][]
): Buffer {
  const reply = Buffer.alloc(24 + 8 * extents.length)
  structuredHead(reply, CHUNK.blockStatus, cookie, reply.byteLength - 20)
  reply.writeUInt32BE(context, 20)
  for (const [n, [length, flags]] of extents.entries()) {
    reply.writeUInt32BE(length, 24 + 8 * n)
    reply.writeUInt32BE(flags, 28 + 8 * n)
  }
  return reply
}

export function errorReply(cookie: bigint, error: number): Buffer {
  const reply = Buffer.alloc(26)
  structuredHead(reply, CHUNK.error, cookie, 6)
  reply.writeUInt32BE(error, 20)
  return reply
}

function structuredHead(head: Buffer, type: number, cookie: bigint, length: number): void {
  head.writeUInt32BE(STRUCTURED_REPLY_MAGIC, 0)
  head.writeUInt16BE(DONE, 4)
  head.writeUInt16BE(type, 6)
  head.writeBigUInt64BE(cookie, 8)
  head.writeUInt32BE(length, 16)
}
