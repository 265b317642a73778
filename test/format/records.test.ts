import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { CODECS } from './codecs.js'
import { outcome, refuses } from './refuses.js'

for (const codec of CODECS) {
  test(`${codec.name}: what is written is read back, and writes the same bytes again`, () => {
    fc.assert(
      fc.property(codec.samples, ({ value, bytes }) => {
        assert.deepEqual(codec.decode(bytes), value)
        assert.deepEqual(codec.recode(bytes), bytes)
      })
    )
  })

  test(`${codec.name}: cut off anywhere, it is INTEGRITY`, () => {
    fc.assert(
      fc.property(codec.samples, ({ bytes }) => {
        for (let end = 0; end < bytes.byteLength; end++) {
          const cut = outcome(() => codec.decode(bytes.subarray(0, end)))
          // A compressed pack's frame runs to its end: the decompressor sees that it was cut.
          if ('value' in cut) assert.equal(codec.name, 'pack')
          else assert.equal(cut.code, 'INTEGRITY', `cut at ${end}`)
        }
      }),
      { numRuns: 20 }
    )
  })

  test(`${codec.name}: whatever is accepted is in its one canonical form`, () => {
    const isCanonical = (bytes: Buffer): void => {
      const read = outcome(() => codec.recode(bytes))
      if ('code' in read) assert.match(read.code, /^(INTEGRITY|NEWER_FORMAT)$/)
      else if (read.value !== null && codec.name === 'hello') {
        assert.deepEqual(read.value, bytes.subarray(0, read.value.byteLength))
      } else if (read.value !== null) assert.deepEqual(read.value, bytes)
    }
    fc.assert(fc.property(fc.uint8Array({ maxLength: 80 }), (any) => isCanonical(Buffer.from(any))))
    fc.assert(
      fc.property(codec.samples, fc.nat(), fc.integer({ min: 1, max: 255 }), (made, at, change) => {
        const { bytes } = made
        const index = at % bytes.byteLength
        bytes[index] = (bytes[index] ?? 0) ^ change
        isCanonical(bytes)
      }),
      { numRuns: 300 }
    )
  })

  if (codec.endsExactly) {
    test(`${codec.name}: bytes behind the end are INTEGRITY`, () => {
      fc.assert(
        fc.property(codec.samples, fc.nat(255), ({ bytes }, extra) => {
          refuses('INTEGRITY', () => codec.decode(Buffer.concat([bytes, Buffer.from([extra])])))
        }),
        { numRuns: 40 }
      )
    })
  }

  const { formatAt, newest } = codec
  if (formatAt !== null) {
    test(`${codec.name}: a newer format number is NEWER_FORMAT, 0 is INTEGRITY`, () => {
      fc.assert(
        fc.property(
          codec.samples,
          fc.integer({ min: newest + 1, max: 127 }),
          ({ bytes }, format) => {
            bytes[formatAt] = format
            refuses('NEWER_FORMAT', () => codec.decode(bytes))
            bytes[formatAt] = 0
            refuses('INTEGRITY', () => codec.decode(bytes))
          }
        ),
        { numRuns: 20 }
      )
    })
  }
}
