import { createHash } from 'node:crypto'
import { ristretto255, ristretto255_hasher } from '@noble/curves/ed25519.js'
import { randomBytes } from './identity.js'

/*
 * CPace, a balanced PAKE: two who share a weak secret agree on a strong key, and whoever does not
 * know the secret gets one guess for each time that one of them goes along. On ristretto255 with
 * SHA-512, initiator and responder, as CPACE-RISTR255-SHA512 of draft-irtf-cfrg-cpace-21.
 */
const DSI = Buffer.from('CPaceRistretto255')
const DSI_ISK = Buffer.from('CPaceRistretto255_ISK')
/** Bytes that SHA-512 takes in at a time. */
const HASH_INPUT = 128
const { Point } = ristretto255
const ORDER = Point.Fn.ORDER

/** What both sides know, and what of it only they do. */
export interface Shared {
  /** The weak secret. */
  secret: Buffer
  /** Who talks to whom, over what: the same on both sides, or no key comes out. */
  context: Buffer
  /** Of this one talk, fresh. */
  session: Buffer
}

/** A share that goes to the other side: a point, and data that the key is bound to. */
export interface Share {
  point: Buffer
  data: Buffer
}

/** One side of a talk. */
export class Cpace {
  readonly #scalar: bigint
  readonly #shared: Shared
  /** To be sent. */
  readonly share: Share

  /** `scalar`: little-endian, for vectors alone. */
  constructor(shared: Shared, data: Buffer, scalar = freshScalar()) {
    this.#shared = shared
    this.#scalar = scalar
    const point = multiply(generator(shared), scalar)
    if (point === null) throw new RangeError('a scalar that no group has')
    this.share = { point, data }
  }

  /** The key, 64 bytes, for who sent the first share. null: the other's is none. */
  initiated(theirs: Share): Buffer | null {
    return this.#key(theirs, this.share, theirs)
  }

  /** The same key for who sent the second one. */
  responded(theirs: Share): Buffer | null {
    return this.#key(theirs, theirs, this.share)
  }

  #key(theirs: Share, first: Share, second: Share): Buffer | null {
    const secret = multiply(theirs.point, this.#scalar)
    if (secret === null) return null
    const transcript = lv(first.point, first.data, second.point, second.data)
    return sha512(lv(DSI_ISK, this.#shared.session, secret), transcript)
  }
}

/** The generator that follows from the secret. */
export function generator({ secret, context, session }: Shared): Buffer {
  const length = HASH_INPUT - 1 - lv(secret).byteLength - lv(DSI).byteLength
  const padding = Buffer.alloc(Math.max(length, 0))
  const hash = sha512(lv(DSI, secret, padding, context, session))
  const point = ristretto255_hasher.deriveToCurve?.(hash)
  if (point === undefined) throw new Error('this group has a map from bytes')
  return Buffer.from(point.toBytes())
}

/** null: the point is none, or the product is neutral. */
export function multiply(point: Buffer, scalar: bigint): Buffer | null {
  try {
    const product = Point.fromBytes(point).multiply(scalar)
    return product.is0() ? null : Buffer.from(product.toBytes())
  } catch {
    return null
  }
}

export function scalarFrom(littleEndian: Buffer): bigint {
  return BigInt(`0x${Buffer.from(littleEndian.toReversed()).toString('hex')}`)
}

function freshScalar(): bigint {
  for (;;) {
    // 252 bits, and all of the order's is used but a sliver.
    const bytes = randomBytes(32)
    bytes[31] = (bytes[31] ?? 0) & 0x1f
    const scalar = scalarFrom(bytes)
    if (scalar > 0n && scalar < ORDER) return scalar
  }
}

/** Each part behind its length, which is a LEB128 number. */
function lv(...parts: readonly Buffer[]): Buffer {
  return Buffer.concat(parts.flatMap((part) => [leb128(part.byteLength), part]))
}

function leb128(value: number): Buffer {
  const bytes: number[] = []
  let rest = value
  for (; rest > 0x7f; rest >>= 7) bytes.push((rest & 0x7f) | 0x80)
  return Buffer.from([...bytes, rest])
}

function sha512(...parts: readonly Buffer[]): Buffer {
  const hash = createHash('sha512')
  for (const part of parts) hash.update(part)
  return hash.digest()
}
