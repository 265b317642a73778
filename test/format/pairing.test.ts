import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { codeText, linkText, parseInvite, type InviteLink } from '../../lib/format/pairing.js'
import { randomWords } from '../../lib/keys/words.js'
import { bytes } from './arbitrary.js'
import { outcome, refuses } from './refuses.js'

const link: fc.Arbitrary<InviteLink> = fc.record(
  { id: bytes(16, 16), secret: bytes(16, 16), expires: fc.maxSafeNat() },
  { noNullPrototype: true }
)
const LINK = { id: Buffer.alloc(16, 9), secret: Buffer.alloc(16, 8), expires: 1_700_000_000_000 }

test('a link is read back from its text, also with white space around it', () => {
  fc.assert(
    fc.property(link, (made) => {
      const text = linkText(made)
      assert.match(text, /^hyperparcel2\.[A-Za-z0-9_-]+$/)
      assert.deepEqual(parseInvite(text), made)
      assert.deepEqual(parseInvite(`  ${text}\r\n`), made)
    })
  )
})

test('a code is read as people type it', () => {
  for (let n = 0; n < 500; n++) {
    const code = { number: 1 + n * 1_999, words: randomWords(2) }
    const text = codeText(code)
    for (const typed of [text, text.toUpperCase(), ` ${text.replaceAll('-', ' ')}\n`]) {
      assert.deepEqual(parseInvite(typed), code)
    }
  }
})

test('what is not a whole invite is BAD_INVITE', () => {
  const text = linkText(LINK)
  const bad = [
    '',
    'hyperparcel2',
    'hyperparcel2.',
    text.slice('hyperparcel2.'.length),
    text.replace('hyperparcel2', 'hyperparcel'),
    text.replace('hyperparcel2', 'hyperparcel0'),
    text.replace('hyperparcel2', 'hyperparcel1'),
    text.replace('hyperparcel2', 'Hyperparcel2'),
    text.replace('hyperparcel2', 'hyperparcel2x'),
    `${text}.`,
    `${text}=`,
    `${text.slice(0, 30)}\n${text.slice(30)}`,
    `${text.slice(0, 30)}+${text.slice(31)}`,
    '12-one',
    '12-one-two-three',
    'one-two-three',
    '0-one-two',
    '012-one-two',
    '123456789-one-two',
    '12-one-2',
    '-12-one-two'
  ]
  for (const each of bad) refuses('BAD_INVITE', () => parseInvite(each), JSON.stringify(each))
})

test('an invite of a newer format is NEWER_FORMAT', () => {
  const body = linkText(LINK).slice('hyperparcel2'.length)
  for (const format of ['3', '9', '10', '123']) {
    refuses('NEWER_FORMAT', () => parseInvite(`hyperparcel${format}${body}`))
  }
})

test('any text is an invite or refused with a reason', () => {
  const mangled = fc.tuple(link, fc.nat(), fc.string({ maxLength: 3 })).map(([made, at, put]) => {
    const text = linkText(made)
    return text.slice(0, at % text.length) + put + text.slice((at % text.length) + 1)
  })
  fc.assert(
    fc.property(fc.oneof(fc.string(), mangled), (text) => {
      const read = outcome(() => parseInvite(text))
      if (!('value' in read)) assert.match(read.code, /^(BAD_INVITE|NEWER_FORMAT)$/)
      else if ('id' in read.value) assert.equal(linkText(read.value), text.trim())
    })
  )
})
