import type * as fc from 'fast-check'
import { Reader } from '../../lib/format/codec.js'
import { decodeControlRecord, encodeControlRecord } from '../../lib/format/control-record.js'
import { decodeCoreHeader, encodeCoreHeader } from '../../lib/format/core-header.js'
import { decodeFileEntry, encodeFileEntry } from '../../lib/format/file-table.js'
import { decodeMetaRecord, encodeMetaRecord } from '../../lib/format/meta-record.js'
import { decodePack, encodePackHeader, type Pack } from '../../lib/format/pack.js'
import {
  decodeIdPage,
  decodePlacePage,
  encodeIdPage,
  encodePlacePage
} from '../../lib/format/page.js'
import {
  decodeJoinReply,
  decodeJoinRequest,
  encodeJoinReply,
  encodeJoinRequest
} from '../../lib/format/pairing.js'
import { decodeVersion, encodeVersion } from '../../lib/format/version.js'
import {
  decodeAnnouncements,
  decodeHeads,
  decodeHello,
  encodeAnnouncements,
  encodeHeads,
  encodeHello
} from '../../lib/format/wire.js'
import { decodeEpochKeys, encodeEpochKeys, type EpochKeys } from '../../lib/format/epoch-keys.js'
import {
  decodeRecovery,
  decodeRecoveryAnswer,
  encodeRecovery,
  encodeRecoveryAnswer,
  type Recovery
} from '../../lib/format/recovery.js'
import * as any from './arbitrary.js'

/** A codec without its type, so that one property can go over all of them. */
export interface AnyCodec {
  name: string
  samples: fc.Arbitrary<{ value: unknown; bytes: Buffer }>
  decode: (bytes: Buffer) => unknown
  /** The bytes again after decoding; null for a record of a type that is skipped. */
  recode: (bytes: Buffer) => Buffer | null
  /** Where the format number stands; null in what has none. */
  formatAt: number | null
  /** The largest format number that is read. */
  newest: number
  /** Whether bytes behind the last field are an error. */
  endsExactly: boolean
}

function codec<T>(
  name: string,
  values: fc.Arbitrary<T>,
  encode: (value: T) => Buffer,
  decode: (bytes: Buffer) => T,
  {
    formatAt = null,
    newest = 1,
    endsExactly = true
  }: Partial<Pick<AnyCodec, 'formatAt' | 'newest' | 'endsExactly'>> = {}
): AnyCodec {
  return {
    name,
    samples: values.map((value) => ({ value, bytes: Buffer.from(encode(value)) })),
    decode,
    recode: (bytes) => Buffer.from(encode(decode(bytes))),
    formatAt,
    newest,
    endsExactly
  }
}

/** A line of the file table carries its length in front. */
export function decodeLine(bytes: Buffer): ReturnType<typeof decodeFileEntry> {
  const reader = new Reader(bytes, 'file table')
  const entry = decodeFileEntry(reader.sized(12_288))
  reader.end()
  return entry
}

function encodePack({ kind, codec: how, items, frame }: Pack): Buffer {
  return Buffer.concat([encodePackHeader(kind, how, items), frame])
}

const metaCodec: AnyCodec = {
  name: 'meta record',
  samples: any.metaRecord.map((value) => ({ value, bytes: encodeMetaRecord(value) })),
  decode: decodeMetaRecord,
  recode: (bytes) => {
    const record = decodeMetaRecord(bytes)
    return record.type === 'unknown' ? null : encodeMetaRecord(record)
  },
  formatAt: null,
  newest: 1,
  endsExactly: true
}

/** As in the vectors. */
const PARCEL = Buffer.from(Array.from({ length: 32 }, (_, n) => n + 1))
const encodeKeys = (epochs: EpochKeys[]): Buffer => encodeEpochKeys(PARCEL, epochs)
const decodeKeys = (bytes: Uint8Array): EpochKeys[] => decodeEpochKeys(PARCEL, bytes)

const encodeBack = (value: Recovery): Buffer => encodeRecovery(PARCEL, value)
const decodeBack = (bytes: Uint8Array): Recovery => decodeRecovery(PARCEL, bytes)

export const CODECS: readonly AnyCodec[] = [
  codec('core header', any.coreHeader, encodeCoreHeader, decodeCoreHeader, { formatAt: 11 }),
  codec('pack', any.pack, encodePack, decodePack, { endsExactly: false }),
  codec('id page', any.idPage, encodeIdPage, decodeIdPage),
  codec('place page', any.placePage, encodePlacePage, decodePlacePage),
  codec('file table line', any.fileEntry, encodeFileEntry, decodeLine),
  codec('version', any.version, encodeVersion, decodeVersion, { formatAt: 0, newest: 2 }),
  metaCodec,
  codec('control record', any.controlRecord, encodeControlRecord, decodeControlRecord, {
    formatAt: 0
  }),
  codec('join request', any.joinRequest, encodeJoinRequest, decodeJoinRequest, { formatAt: 0 }),
  codec('join reply', any.joinReply, encodeJoinReply, decodeJoinReply, { formatAt: 0, newest: 2 }),
  codec('epoch keys', any.epochKeys, encodeKeys, decodeKeys, { formatAt: 0 }),
  codec('recovery', any.recovery, encodeBack, decodeBack, { formatAt: 0 }),
  codec('recovery answer', any.recoveryAnswer, encodeRecoveryAnswer, decodeRecoveryAnswer, {
    formatAt: 0
  }),
  codec('hello', any.hello, encodeHello, decodeHello, { endsExactly: false }),
  codec('announcements', any.announcements, encodeAnnouncements, decodeAnnouncements),
  codec('heads', any.heads, encodeHeads, decodeHeads)
]
