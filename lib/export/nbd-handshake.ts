import {
  HANDSHAKE,
  INFO,
  NBD_MAGIC,
  OPTION,
  OPTION_MAGIC,
  optionReply,
  REFUSAL,
  REPLY
} from './nbd-protocol.js'
import type { Volume } from '../image/volume.js'

export interface NbdExport {
  name: string
  volume: Volume
  /** TRANSMISSION flags. */
  flags: number
}

export interface NbdExports {
  /** null: not told to clients. */
  list(): readonly string[] | null
  find(name: string): NbdExport | null
}

/** What the two sides agreed on before the first request. */
export interface Agreed {
  exported: NbdExport
  isStructured: boolean
  /** Whether requests may ask for "base:allocation". */
  hasStatus: boolean
}

/** Bytes of a client, in the order in which they come. */
export interface ClientBytes {
  /** null: it hung up before so many came. */
  take(count: number): Promise<Buffer | null>
  send(bytes: Buffer): void
}

/** Options are names and short lists. */
const MOST_OPTION_BYTES = 65_536
const MOST_OPTIONS = 4_096
export const ALLOCATION_CONTEXT = 'base:allocation'
export const ALLOCATION_ID = 1
/** What one request may be about: also told to clients. */
export const MOST_BYTES = 32 * 1_048_576
const BLOCK_SIZES = { least: 1, best: 4_096, most: MOST_BYTES }

/** Haggles with a client until it has chosen an export; null when it left, or must be left. */
export async function shakeHands(client: ClientBytes, exports: NbdExports): Promise<Agreed | null> {
  const flags = HANDSHAKE.fixedNewstyle | HANDSHAKE.noZeroes
  client.send(Buffer.concat([NBD_MAGIC, u16(flags)]))
  const answer = (await client.take(4))?.readUInt32BE(0) ?? -1
  if (answer < 0 || (answer & ~flags) !== 0) return null
  const state = { isStructured: false, statusOf: null as string | null }
  for (let n = 0; n < MOST_OPTIONS; n++) {
    const head = await client.take(16)
    if (head === null || !head.subarray(0, 8).equals(OPTION_MAGIC)) return null
    const [option, length] = [head.readUInt32BE(8), head.readUInt32BE(12)]
    if (length > MOST_OPTION_BYTES) return null
    const data = await client.take(length)
    if (data === null) return null
    if (option === OPTION.exportName) {
      const exported = exports.find(data.toString('utf8'))
      if (exported === null) return null
      const isPadded = (answer & HANDSHAKE.noZeroes) === 0
      client.send(Buffer.concat([sizeAndFlags(exported), Buffer.alloc(isPadded ? 124 : 0)]))
      return { ...state, exported, hasStatus: false }
    }
    if (option === OPTION.abort) {
      client.send(optionReply(option, REPLY.ack))
      return null
    }
    const chosen = answerOption(client, exports, state, option, data)
    if (chosen === null) continue
    const hasStatus = state.isStructured && state.statusOf === chosen.name
    return { exported: chosen, isStructured: state.isStructured, hasStatus }
  }
  return null
}

/** The export, when this option was the last word. */
function answerOption(
  client: ClientBytes,
  exports: NbdExports,
  state: { isStructured: boolean; statusOf: string | null },
  option: number,
  data: Buffer
): NbdExport | null {
  const reply = (type: number, body?: Buffer): void => client.send(optionReply(option, type, body))
  if (option === OPTION.structuredReply) {
    if (data.byteLength > 0) reply(REFUSAL.invalid)
    else {
      state.isStructured = true
      reply(REPLY.ack)
    }
  } else if (option === OPTION.list) {
    const names = exports.list()
    if (data.byteLength > 0) reply(REFUSAL.invalid)
    else if (names === null) reply(REFUSAL.policy)
    else {
      for (const name of names) reply(REPLY.server, sized(name))
      reply(REPLY.ack)
    }
  } else if (option === OPTION.info || option === OPTION.go) {
    const wish = readGo(data)
    const exported = wish === null ? null : exports.find(wish.name)
    if (wish === null) reply(REFUSAL.invalid)
    else if (exported === null) reply(REFUSAL.unknown)
    else {
      reply(REPLY.info, Buffer.concat([u16(INFO.export), sizeAndFlags(exported)]))
      const { least, best, most } = BLOCK_SIZES
      const sizes = [u16(INFO.blockSize), u32(least), u32(best), u32(most)]
      reply(REPLY.info, Buffer.concat(sizes))
      if (wish.infos.includes(INFO.name)) {
        reply(REPLY.info, Buffer.concat([u16(INFO.name), Buffer.from(exported.name)]))
      }
      reply(REPLY.ack)
      if (option === OPTION.go) return exported
    }
  } else if (option === OPTION.listMetaContext || option === OPTION.setMetaContext) {
    const wish = readContexts(data)
    const exported = wish === null ? null : exports.find(wish.name)
    const isSet = option === OPTION.setMetaContext
    if (wish === null || !state.isStructured) reply(REFUSAL.invalid)
    else if (exported === null) reply(REFUSAL.unknown)
    else {
      const wanted = (query: string): boolean =>
        query === ALLOCATION_CONTEXT || (!isSet && query === 'base:')
      const isWanted = wish.queries.some(wanted) || (!isSet && wish.queries.length === 0)
      if (isSet) state.statusOf = isWanted ? exported.name : null
      if (isWanted) {
        const id = u32(isSet ? ALLOCATION_ID : 0)
        reply(REPLY.metaContext, Buffer.concat([id, Buffer.from(ALLOCATION_CONTEXT)]))
      }
      reply(REPLY.ack)
    }
  } else {
    reply(REFUSAL.unsupported)
  }
  return null
}

function readGo(data: Buffer): { name: string; infos: number[] } | null {
  const length = data.byteLength < 6 ? Infinity : data.readUInt32BE(0)
  if (length > data.byteLength - 6) return null
  const count = data.readUInt16BE(4 + length)
  if (data.byteLength !== 6 + length + 2 * count) return null
  const infos = Array.from({ length: count }, (_, n) => data.readUInt16BE(6 + length + 2 * n))
  return { name: data.toString('utf8', 4, 4 + length), infos }
}

function readContexts(data: Buffer): { name: string; queries: string[] } | null {
  const texts: string[] = []
  let at = 0
  const text = (): string | null => {
    const length = data.byteLength < at + 4 ? Infinity : data.readUInt32BE(at)
    if (length > data.byteLength - at - 4) return null
    at += 4 + length
    return data.toString('utf8', at - length, at)
  }
  const name = text()
  if (name === null || data.byteLength < at + 4) return null
  const count = data.readUInt32BE(at)
  at += 4
  // Each takes four bytes at least: a lie about their number ends soon.
  for (let n = 0; n < count; n++) {
    const query = text()
    if (query === null) return null
    texts.push(query)
  }
  return at === data.byteLength ? { name, queries: texts } : null
}

function sizeAndFlags({ volume, flags }: NbdExport): Buffer {
  const bytes = Buffer.alloc(10)
  bytes.writeBigUInt64BE(BigInt(volume.size), 0)
  bytes.writeUInt16BE(flags, 8)
  return bytes
}

function sized(text: string): Buffer {
  const bytes = Buffer.from(text)
  return Buffer.concat([u32(bytes.byteLength), bytes])
}

function u16(value: number): Buffer {
  const bytes = Buffer.alloc(2)
  bytes.writeUInt16BE(value)
  return bytes
}

function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32BE(value)
  return bytes
}
