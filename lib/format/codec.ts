import { ParcelError } from '../errors.js'

/**
 * The primitives of every format here. Integers are unsigned LEB128 varints of at most 53 bits in
 * their shortest form (a longer form is refused, so that equal values have equal bytes); byte
 * strings and lists carry their length first.
 */
export class Writer {
  #buffer: Buffer
  #end = 0

  constructor(capacity = 256) {
    this.#buffer = Buffer.allocUnsafe(capacity)
  }

  get length(): number {
    return this.#end
  }

  /** The bytes so far, as a view: valid until the next write. */
  bytes(): Buffer {
    return this.#buffer.subarray(0, this.#end)
  }

  u8(value: number): this {
    this.#reserve(1)
    this.#buffer[this.#end++] = value
    return this
  }

  u16(value: number): this {
    this.#reserve(2)
    this.#end = this.#buffer.writeUInt16LE(value, this.#end)
    return this
  }

  varint(value: number): this {
    if (!Number.isSafeInteger(value) || value < 0) throw new RangeError(`not a varint: ${value}`)
    this.#reserve(8)
    let rest = value
    while (rest >= 0x80) {
      this.#buffer[this.#end++] = (rest % 0x80) | 0x80
      rest = Math.floor(rest / 0x80)
    }
    this.#buffer[this.#end++] = rest
    return this
  }

  /** Bytes of a length that the format fixes. */
  fixed(bytes: Uint8Array, length: number): this {
    if (bytes.byteLength !== length)
      throw new RangeError(`${bytes.byteLength} bytes, not ${length}`)
    return this.raw(bytes)
  }

  raw(bytes: Uint8Array): this {
    this.#reserve(bytes.byteLength)
    this.#buffer.set(bytes, this.#end)
    this.#end += bytes.byteLength
    return this
  }

  sized(bytes: Uint8Array): this {
    return this.varint(bytes.byteLength).raw(bytes)
  }

  /** Refuses what a reader of the same limit would refuse, so that no unreadable record is written. */
  text(value: string, max: number): this {
    const bytes = Buffer.from(value, 'utf8')
    if (bytes.byteLength > max) {
      throw new RangeError(`a text of ${bytes.byteLength} bytes where at most ${max} are allowed`)
    }
    return this.sized(bytes)
  }

  list<T>(items: readonly T[], write: (item: T) => void): this {
    this.varint(items.length)
    for (const item of items) write(item)
    return this
  }

  #reserve(size: number): void {
    if (this.#end + size <= this.#buffer.byteLength) return
    const grown = Buffer.allocUnsafe(Math.max(this.#buffer.byteLength * 2, this.#end + size))
    this.#buffer.copy(grown, 0, 0, this.#end)
    this.#buffer = grown
  }
}

/** Reads what `Writer` wrote. Everything it does not expect is INTEGRITY, naming `what`. */
export class Reader {
  readonly #buffer: Buffer
  readonly #what: string
  #at = 0

  constructor(bytes: Uint8Array, what: string) {
    this.#buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    this.#what = what
  }

  get left(): number {
    return this.#buffer.byteLength - this.#at
  }

  fail(why: string): never {
    throw new ParcelError('INTEGRITY', `damaged ${this.#what}: ${why}`)
  }

  u8(): number {
    const value = this.#buffer[this.#at]
    if (value === undefined) this.fail('ends too early')
    this.#at++
    return value
  }

  u16(): number {
    if (this.left < 2) this.fail('ends too early')
    this.#at += 2
    return this.#buffer.readUInt16LE(this.#at - 2)
  }

  varint(max = Number.MAX_SAFE_INTEGER): number {
    let value = 0
    let scale = 1
    for (let i = 0; i < 8; i++) {
      const byte = this.u8()
      value += (byte & 0x7f) * scale
      if (byte < 0x80) {
        if (byte === 0 && i > 0) this.fail('an integer is not in its shortest form')
        if (value > max) this.fail(`${value} where at most ${max} is allowed`)
        return value
      }
      scale *= 0x80
    }
    return this.fail('an integer is too long')
  }

  /** A view, not a copy. */
  fixed(length: number): Buffer {
    if (this.left < length) this.fail('ends too early')
    this.#at += length
    return this.#buffer.subarray(this.#at - length, this.#at)
  }

  sized(max: number): Buffer {
    return this.fixed(this.varint(max))
  }

  text(max: number): string {
    const bytes = this.sized(max)
    const value = bytes.toString('utf8')
    if (!Buffer.from(value, 'utf8').equals(bytes)) this.fail('text that is not UTF-8')
    return value
  }

  list<T>(max: number, read: () => T): T[] {
    const count = this.varint(max)
    const items: T[] = []
    for (let i = 0; i < count; i++) items.push(read())
    return items
  }

  rest(): Buffer {
    return this.fixed(this.left)
  }

  end(): void {
    if (this.left > 0) this.fail(`${this.left} bytes too many`)
  }
}

/** 32 bytes or none: a flag, then the bytes. */
export function writeOptional(writer: Writer, value: Buffer | null): void {
  writer.u8(value === null ? 0 : 1)
  if (value !== null) writer.fixed(value, 32)
}

export function readOptional(reader: Reader): Buffer | null {
  const flag = reader.u8()
  if (flag > 1) reader.fail('a flag is neither 0 nor 1')
  return flag === 0 ? null : Buffer.from(reader.fixed(32))
}
