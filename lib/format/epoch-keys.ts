import { Reader, readOptional, writeOptional, Writer } from './codec.js'
import { readFormat } from './extension.js'
import { FORMAT, HASH_BYTES, KEY_BYTES } from './limits.js'

/** The secrets of one key epoch of a parcel. A vault has the control key alone. */
export interface EpochKeys {
  /** Epochs count up from 0. */
  epoch: number
  /** Id of the record that began it; null for the first. */
  record: Buffer | null
  epochKey: Buffer | null
  controlKey: Buffer
}

/** Epochs in one list: what an epoch record gives a member, or tells of those before. */
export const MAX_EPOCHS_LISTED = 8

export function encodeEpochKeys(parcel: Buffer, epochs: readonly EpochKeys[]): Buffer {
  const writer = new Writer(64 + 128 * epochs.length).varint(FORMAT).fixed(parcel, HASH_BYTES)
  writer.list(epochs, ({ epoch, record, epochKey, controlKey }) => {
    writer.varint(epoch)
    writeOptional(writer, record)
    writer.fixed(controlKey, KEY_BYTES)
    writeOptional(writer, epochKey)
  })
  return Buffer.from(writer.bytes())
}

/** Throws INTEGRITY, also for keys of another parcel. */
export function decodeEpochKeys(parcel: Buffer, bytes: Uint8Array): EpochKeys[] {
  const reader = new Reader(bytes, 'epoch keys')
  readFormat(reader, FORMAT, 'epoch keys')
  if (!reader.fixed(HASH_BYTES).equals(parcel)) reader.fail('they are of another parcel')
  const epochs = reader.list(MAX_EPOCHS_LISTED, () => ({
    epoch: reader.varint(),
    record: readOptional(reader),
    controlKey: Buffer.from(reader.fixed(KEY_BYTES)),
    epochKey: readOptional(reader)
  }))
  reader.end()
  return epochs
}
