import { Reader, Writer } from './codec.js'
import { decodeEpochKeys, encodeEpochKeys, type EpochKeys } from './epoch-keys.js'
import { readFormat } from './extension.js'
import { FORMAT, HASH_BYTES, MAX_DRIVER_BYTES, MAX_NAME_BYTES, SIGNATURE_BYTES } from './limits.js'
import type { SignedRecord } from './wire.js'

/** What a host that lost everything but its identity needs to be in a parcel again. */
export interface Recovery {
  name: string
  driver: string
  /** Newest first. */
  epochs: EpochKeys[]
}

/** What a member answers a host that asks which parcels it is in. */
export interface RecoveryAnswer {
  parcel: Buffer
  /** The host's own `recovery` record. */
  record: SignedRecord
  /** Signed `cores` records of who answers, of owners, and of the host itself: where the records are. */
  announcements: SignedRecord[]
}

/** One size for most, so that it does not tell how long a name is. */
const BUCKET = 1_024
const MAX_RECORD = 8_192
/** Announcements that a host is given that knows nobody yet, and bytes of them. */
export const MAX_INTRODUCED = 16
export const MAX_INTRODUCED_BYTES = 12_288
/** Of a `recovery` record's sealed box. */
export const MAX_RECOVERY = 4_096

/** Padded with zeros. */
export function encodeRecovery(parcel: Buffer, { name, driver, epochs }: Recovery): Buffer {
  const writer = new Writer(BUCKET).varint(FORMAT)
  writer.text(name, MAX_NAME_BYTES).text(driver, MAX_DRIVER_BYTES)
  const bytes = writer.sized(encodeEpochKeys(parcel, epochs)).bytes()
  const padded = Buffer.alloc(Math.ceil(bytes.byteLength / BUCKET) * BUCKET)
  padded.set(bytes)
  return padded
}

/** Throws INTEGRITY. */
export function decodeRecovery(parcel: Buffer, bytes: Uint8Array): Recovery {
  const reader = new Reader(bytes, 'recovery')
  readFormat(reader, FORMAT, 'recovery')
  const name = reader.text(MAX_NAME_BYTES)
  const driver = reader.text(MAX_DRIVER_BYTES)
  const epochs = decodeEpochKeys(parcel, reader.sized(MAX_RECOVERY))
  if (epochs.length === 0) reader.fail('it has no keys')
  const padding = reader.rest()
  if (
    bytes.byteLength % BUCKET !== 0 ||
    padding.byteLength >= BUCKET ||
    padding.some((b) => b !== 0)
  ) {
    reader.fail('its padding is not as it should be')
  }
  return { name, driver, epochs }
}

export function encodeRecoveryAnswer(answer: RecoveryAnswer): Buffer {
  const writer = new Writer(1_024).varint(FORMAT).fixed(answer.parcel, HASH_BYTES)
  const write = ({ bytes, signature }: SignedRecord): unknown =>
    writer.sized(bytes).fixed(signature, SIGNATURE_BYTES)
  write(answer.record)
  writer.list(answer.announcements, write)
  return Buffer.from(writer.bytes())
}

/** Throws INTEGRITY. */
export function decodeRecoveryAnswer(bytes: Uint8Array): RecoveryAnswer {
  const reader = new Reader(bytes, 'recovery answer')
  readFormat(reader, FORMAT, 'recovery answer')
  const parcel = reader.fixed(HASH_BYTES)
  const signed = (): SignedRecord => ({
    bytes: reader.sized(MAX_RECORD),
    signature: reader.fixed(SIGNATURE_BYTES)
  })
  const record = signed()
  const announcements = reader.list(MAX_INTRODUCED, signed)
  const answer = { parcel, record, announcements }
  reader.end()
  return answer
}
