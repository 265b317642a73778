import { ParcelError } from '../errors.js'
import type { Reader, Writer } from './codec.js'
import { MAX_EXTENSION_BYTES, MAX_EXTENSIONS } from './limits.js'

/**
 * A field that this format version does not know. An unknown optional one is kept as it is; an
 * unknown critical one makes its record unreadable here.
 */
export interface Extension {
  tag: number
  critical: boolean
  value: Buffer
}

/** Ascending by tag, each tag once. */
export function writeExtensions(writer: Writer, extensions: readonly Extension[]): void {
  const sorted = extensions.toSorted((a, b) => a.tag - b.tag)
  writer.list(sorted, ({ tag, critical, value }) => {
    writer
      .varint(tag)
      .u8(critical ? 1 : 0)
      .sized(value)
  })
}

/** `what` names the record in the NEWER_FORMAT error that an unknown critical extension causes. */
export function readExtensions(reader: Reader, what: string): Extension[] {
  let last = -1
  return reader.list(MAX_EXTENSIONS, () => {
    const tag = reader.varint()
    if (tag <= last) reader.fail('its extensions are out of order')
    last = tag
    const flag = reader.u8()
    if (flag > 1) reader.fail('an extension flag is neither 0 nor 1')
    if (flag === 1) throw newerFormat(what)
    return { tag, critical: false, value: reader.sized(MAX_EXTENSION_BYTES) }
  })
}

/** Reads the format number in front of a record: one from 1 to `known`. */
export function readFormat(reader: Reader, known: number, what: string): number {
  const format = reader.varint()
  if (format > known) throw newerFormat(what)
  if (format < 1) reader.fail('format 0')
  return format
}

function newerFormat(what: string): ParcelError {
  return new ParcelError(
    'NEWER_FORMAT',
    `this ${what} was written by a newer hyperparcel: update hyperparcel on this host`
  )
}
