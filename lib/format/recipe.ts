import { Reader, Writer } from './codec.js'
import { MAX_LEASE_HEADS, MAX_VOTERS } from './lease.js'
import {
  CHUNK_SIZE,
  HASH_BYTES,
  KEY_BYTES,
  KEY_ID_BYTES,
  MAX_PACK_ITEMS,
  MAX_PACK_RAW,
  NONCE_BYTES
} from './limits.js'
import { MAX_GRACE } from './remote-suspend.js'
import { CODECS, KINDS, type Codec, type PackItem, type PackKind } from './pack.js'

/** A node of a core's Merkle tree, as hypercore proves a block with. */
export interface ProofNode {
  index: number
  size: number
  hash: Buffer
}

/** All of a pack's block but its items: with them the block can be made again, byte for byte. */
export interface Recipe {
  keyId: Buffer
  nonce: Buffer
  kind: PackKind
  codec: Codec
  items: PackItem[]
  fork: number
  proof: ProofNode[]
}

/**
 * A host asks for recipes of blocks, for items of packs, for control records by their ids, which of some
 * versions another host holds and will not be without before it has asked itself, for the lease, or a
 * vote for it (`voters` are those who have one then), to go on from some versions, for what another host has
 * of logs that it writes itself, and how long they are here, or that the other host suspends its machine after
 * `grace` ms: asked again with the same id, how far that is.
 * `nodes`: how many the proof needs.
 */
export type Question =
  | { kind: 'recipes'; core: Buffer; blocks: { index: number; nodes: number }[] }
  | { kind: 'items'; core: Buffer; blocks: { index: number; ordinals: number[] }[] }
  | { kind: 'records'; ids: Buffer[] }
  | { kind: 'held'; ids: Buffer[] }
  | { kind: 'lease'; number: number; heads: Buffer[]; voters: Buffer[] }
  | { kind: 'states'; logs: { core: Buffer; length: number }[] }
  | { kind: 'suspend'; id: Buffer; grace: number }

/** `running`: it cannot be given away now. */
export type LeaseAnswer = 'refused' | 'given' | 'running'
const LEASE_ANSWERS: readonly LeaseAnswer[] = ['refused', 'given', 'running']

export const MAX_ASKED = 64
/** Raw bytes of the items of one answer. */
export const MAX_ITEMS_RAW = 2 * 1024 * 1024
const MAX_NODES = 64
const MAX_INDEX = 2 ** 40

/** `number` comes back with the answer. */
export function encodeQuestion(number: number, question: Question): Buffer {
  const writer = new Writer(256).varint(number)
  if (question.kind === 'lease') {
    const { number: wanted, heads, voters } = question
    writer
      .u8(5)
      .varint(wanted)
      .list(heads, (id) => writer.fixed(id, HASH_BYTES))
    writer.list(voters, (key) => writer.fixed(key, KEY_BYTES))
    return Buffer.from(writer.bytes())
  }
  if (question.kind === 'suspend') {
    writer.u8(7).fixed(question.id, KEY_ID_BYTES).varint(question.grace)
    return Buffer.from(writer.bytes())
  }
  if (question.kind === 'states') {
    const { logs } = question
    writer.u8(6).list(logs, ({ core, length }) => writer.fixed(core, KEY_BYTES).varint(length))
    return Buffer.from(writer.bytes())
  }
  if (question.kind === 'records' || question.kind === 'held') {
    writer
      .u8(question.kind === 'records' ? 3 : 4)
      .list(question.ids, (id) => writer.fixed(id, HASH_BYTES))
    return Buffer.from(writer.bytes())
  }
  writer.u8(question.kind === 'recipes' ? 1 : 2).fixed(question.core, KEY_BYTES)
  if (question.kind === 'recipes') {
    writer.list(question.blocks, ({ index, nodes }) => writer.varint(index).varint(nodes))
  } else {
    writer.list(question.blocks, ({ index, ordinals }) => {
      writer.varint(index).list(ordinals, (ordinal) => writer.varint(ordinal))
    })
  }
  return Buffer.from(writer.bytes())
}

export function decodeQuestion(bytes: Uint8Array): { number: number; question: Question } {
  const reader = new Reader(bytes, 'question')
  const number = reader.varint()
  const kind = reader.u8()
  if (kind === 5) {
    const wanted = reader.varint(MAX_INDEX)
    const heads = reader.list(MAX_LEASE_HEADS, () => Buffer.from(reader.fixed(HASH_BYTES)))
    const voters = reader.list(MAX_VOTERS, () => Buffer.from(reader.fixed(KEY_BYTES)))
    reader.end()
    return { number, question: { kind: 'lease', number: wanted, heads, voters } }
  }
  if (kind === 3 || kind === 4) {
    const ids = reader.list(MAX_ASKED, () => Buffer.from(reader.fixed(HASH_BYTES)))
    reader.end()
    return { number, question: { kind: kind === 3 ? 'records' : 'held', ids } }
  }
  if (kind === 7) {
    const id = Buffer.from(reader.fixed(KEY_ID_BYTES))
    const grace = reader.varint(MAX_GRACE)
    reader.end()
    return { number, question: { kind: 'suspend', id, grace } }
  }
  if (kind === 6) {
    const logs = reader.list(MAX_ASKED, () => ({
      core: Buffer.from(reader.fixed(KEY_BYTES)),
      length: reader.varint(MAX_INDEX)
    }))
    reader.end()
    return { number, question: { kind: 'states', logs } }
  }
  const core = reader.fixed(KEY_BYTES)
  if (kind === 1) {
    const blocks = reader.list(MAX_ASKED, () => ({
      index: reader.varint(MAX_INDEX),
      nodes: reader.varint(MAX_NODES)
    }))
    reader.end()
    return { number, question: { kind: 'recipes', core, blocks } }
  }
  if (kind !== 2) reader.fail('an unknown kind of question')
  const blocks = reader.list(MAX_ASKED, () => ({
    index: reader.varint(MAX_INDEX),
    ordinals: reader.list(MAX_PACK_ITEMS, () => reader.varint(MAX_PACK_ITEMS - 1))
  }))
  reader.end()
  return { number, question: { kind: 'items', core, blocks } }
}

/** One recipe or null for each block asked for. */
export function encodeRecipes(number: number, recipes: readonly (Recipe | null)[]): Buffer {
  const writer = new Writer(1_024)
  writer.varint(number).list(recipes, (recipe) => {
    if (recipe === null) {
      writer.u8(0)
      return
    }
    writer.u8(1).fixed(recipe.keyId, KEY_ID_BYTES).fixed(recipe.nonce, NONCE_BYTES)
    writer.u8(KINDS.indexOf(recipe.kind) + 1).u8(CODECS.indexOf(recipe.codec))
    writer.list(recipe.items, ({ id, length }) => writer.fixed(id, HASH_BYTES).varint(length))
    writer.varint(recipe.fork).list(recipe.proof, ({ index, size, hash }) => {
      writer.varint(index).varint(size).fixed(hash, HASH_BYTES)
    })
  })
  return Buffer.from(writer.bytes())
}

export function decodeRecipes(bytes: Uint8Array): (Recipe | null)[] {
  const reader = new Reader(bytes, 'recipes')
  const recipes = reader.list(MAX_ASKED, () => (reader.u8() === 0 ? null : readRecipe(reader)))
  reader.end()
  return recipes
}

function readRecipe(reader: Reader): Recipe {
  const keyId = reader.fixed(KEY_ID_BYTES)
  const nonce = reader.fixed(NONCE_BYTES)
  const kind = KINDS[reader.u8() - 1] ?? reader.fail('its kind is unknown')
  const codec = CODECS[reader.u8()] ?? reader.fail('its codec is unknown')
  const items = reader.list(MAX_PACK_ITEMS, () => ({
    id: reader.fixed(HASH_BYTES),
    length: reader.varint(CHUNK_SIZE)
  }))
  const raw = items.reduce((sum, { length }) => sum + length, 0)
  if (items.length === 0 || raw > MAX_PACK_RAW) reader.fail(`${items.length} items, ${raw} bytes`)
  const fork = reader.varint()
  const proof = reader.list(MAX_NODES, () => ({
    index: reader.varint(2 * MAX_INDEX),
    size: reader.varint(),
    hash: reader.fixed(HASH_BYTES)
  }))
  return { keyId, nonce, kind, codec, items, fork, proof }
}

/** Items one after the other as one zstd frame; an empty one when there are none to give. */
export function encodeItems(number: number, frame: Uint8Array): Buffer {
  return Buffer.from(new Writer(16 + frame.byteLength).varint(number).raw(frame).bytes())
}

/** A flag for each version asked for, in order. */
export function encodeHeld(held: readonly boolean[]): Buffer {
  const writer = new Writer(80)
  writer.list(held, (one) => writer.u8(one ? 1 : 0))
  return Buffer.from(writer.bytes())
}

export function decodeHeld(bytes: Uint8Array): boolean[] {
  const reader = new Reader(bytes, 'answer')
  const held = reader.list(MAX_ASKED, () => reader.u8() === 1)
  reader.end()
  return held
}

export function encodeLeaseAnswer(answer: LeaseAnswer): Buffer {
  return Buffer.from([LEASE_ANSWERS.indexOf(answer)])
}

export function decodeLeaseAnswer(bytes: Uint8Array): LeaseAnswer {
  return LEASE_ANSWERS[bytes[0] ?? 0] ?? 'refused'
}

/** The number of the question, and the answer itself. */
export function decodeAnswer(bytes: Uint8Array): { number: number; body: Buffer } {
  const reader = new Reader(bytes, 'answer')
  return { number: reader.varint(), body: reader.rest() }
}
