import sodium from 'sodium-native'
import { chunkId, pageHash } from '../../lib/chunk/id.js'
import { Writer } from '../../lib/format/codec.js'
import { encodeCoreHeader, type CoreKind } from '../../lib/format/core-header.js'
import { ENVELOPE_BYTES, type Chunking } from '../../lib/format/limits.js'
import { bucket, pad } from '../../lib/format/padding.js'
import { keyedHash } from '../../lib/keys/hash.js'
import { NS } from '../../lib/keys/namespaces.js'
import { Keyring } from '../../lib/keys/keyring.js'
import { channelId } from '../../lib/swarm/channel.js'
import { count, plain, type VectorFile } from './vector.js'

const PARCEL = count(0x10)
const CORE = count(0x30)
const KEYS = { epoch: 3, epochKey: count(0x50), controlKey: count(0x70) }
const KINDS: CoreKind[] = ['control', 'meta', 'data']

const varints = [0, 1, 127, 128, 300, 16_383, 16_384, 2 ** 32 - 1, 2 ** 32, 2 ** 53 - 1]

function chunkCase(chunking: Chunking, length: number, fill: number) {
  const id = chunkId(Buffer.alloc(length, fill), chunking)
  return { kind: 'chunk', chunking, length, fill, id: id.toString('hex') }
}

function pageCase(length: number, fill: number) {
  const id = pageHash(Buffer.alloc(length, fill))
  return { kind: 'page', length, fill, id: id.toString('hex') }
}

function derived(kind: CoreKind) {
  const namespace = { control: NS.controlKey, meta: NS.metaKey, data: NS.dataKey }[kind]
  const secret = kind === 'control' ? KEYS.controlKey : KEYS.epochKey
  const key = keyedHash(secret, namespace, PARCEL)
  return { key, id: keyedHash(key, NS.keyId).subarray(0, 16) }
}

/** Sealed by hand, because a real nonce is random. */
function sealedCase(kind: CoreKind, index: number, body: Buffer) {
  const { key, id } = derived(kind)
  const nonce = count(0x90, 24)
  const block = pad([body], ENVELOPE_BYTES)
  const plaintext = block.toString('hex', ENVELOPE_BYTES)
  const position = Buffer.alloc(8)
  position.writeBigUInt64LE(BigInt(index))
  const associated = Buffer.concat([NS.envelope, CORE, position])
  block[0] = 1
  block.set(id, 1)
  block.set(nonce, 17)
  const text = block.subarray(ENVELOPE_BYTES)
  const tag = block.subarray(41, ENVELOPE_BYTES)
  sodium.crypto_aead_xchacha20poly1305_ietf_encrypt_detached(
    text,
    tag,
    text,
    associated,
    null,
    nonce,
    key
  )
  return { kind, core: CORE, index, nonce, associated, body, plaintext, block }
}

function headerCase(kind: CoreKind) {
  const value = { kind, parcel: PARCEL, host: count(0x40, 32), incarnation: count(0xa0, 16) }
  return { record: 'core header', value, bytes: encodeCoreHeader(value) }
}

function file(about: string, cases: readonly object[]): VectorFile {
  return {
    about,
    cases: cases.map((each) =>
      Object.fromEntries(Object.entries(each).map(([name, value]) => [name, plain(value)]))
    )
  }
}

export function primitives(): Record<string, VectorFile> {
  const secrets = { parcel: PARCEL, ...KEYS }
  const ring = new Keyring(PARCEL, [{ ...KEYS, record: null }])
  return {
    varints: file(
      'Integers and their only encoding.',
      varints.map((value) => ({ value, bytes: new Writer().varint(value).bytes() }))
    ),
    namespaces: file(
      'Constants that keep hashes, keys and signatures of one purpose apart from all others.',
      Object.entries(NS).map(([use, value]) => ({ use, value }))
    ),
    hashes: file('Ids of chunks and hashes of pages of `length` bytes that are all `fill`.', [
      ...([1, 2] as const).flatMap((chunking) => [
        chunkCase(chunking, 1, 0),
        chunkCase(chunking, 4_096, 7),
        chunkCase(chunking, 65_536, 255)
      ]),
      pageCase(1, 0),
      pageCase(100, 7)
    ]),
    keys: file('What follows from the secrets of an epoch.', [
      {
        ...secrets,
        keys: Object.fromEntries(KINDS.map((kind) => [kind, derived(kind)])),
        topic: ring.topic(),
        vaultTopic: new Keyring(PARCEL, [{ ...KEYS, record: null, epochKey: null }]).topic(),
        channel: channelId(PARCEL)
      }
    ]),
    padding: file(
      'Length of a body, and of the plaintext it is padded to.',
      [0, 252, 253, 508, 509, 4_092, 8_188, 8_189, 16_380, 16_381, 1_048_576].map((body) => ({
        body,
        plaintext: bucket(body)
      }))
    ),
    'sealed-blocks': file('Blocks sealed with the keys of keys.json under a fixed nonce.', [
      sealedCase('control', 0, Buffer.alloc(0)),
      sealedCase('meta', 1, Buffer.from('a record')),
      sealedCase('data', 2 ** 33 + 5, Buffer.from('a pack of some length, '.repeat(12)))
    ]),
    'core-headers': file('Block 0 of each kind of core.', KINDS.map(headerCase))
  }
}
