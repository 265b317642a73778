import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { inviteText, parseInvite } from '../../lib/format/pairing.js'
import { bytes } from './arbitrary.js'
import { outcome, refuses } from './refuses.js'

const invite = bytes(64, 1_024)

test('an invite is read back from its text, also with white space around it', () => {
  fc.assert(
    fc.property(invite, (made) => {
      const text = inviteText(made)
      assert.match(text, /^hyperparcel1\.[A-Za-z0-9_-]+$/)
      assert.deepEqual(parseInvite(text), made)
      assert.deepEqual(parseInvite(`  ${text}\r\n`), made)
    })
  )
})

test('what is not a whole invite is BAD_INVITE', () => {
  const text = inviteText(Buffer.alloc(70, 9))
  const bad = [
    '',
    'hyperparcel1',
    'hyperparcel1.',
    text.slice('hyperparcel1.'.length),
    text.replace('hyperparcel1', 'hyperparcel'),
    text.replace('hyperparcel1', 'hyperparcel0'),
    text.replace('hyperparcel1', 'Hyperparcel1'),
    text.replace('hyperparcel1', 'hyperparcel1x'),
    text.replace('hyperparcel1', 'otherparcel1'),
    `${text}.`,
    `${text}.${text}`,
    `${text}=`,
    text.replace('.', '. '),
    `${text.slice(0, 40)}\n${text.slice(40)}`,
    `${text.slice(0, 40)}+${text.slice(41)}`,
    inviteText(Buffer.alloc(63)),
    inviteText(Buffer.alloc(1_025))
  ]
  for (const each of bad) refuses('BAD_INVITE', () => parseInvite(each), JSON.stringify(each))
})

test('an invite of a newer format is NEWER_FORMAT', () => {
  const body = inviteText(Buffer.alloc(70, 9)).slice('hyperparcel1'.length)
  for (const format of ['2', '9', '10', '123']) {
    refuses('NEWER_FORMAT', () => parseInvite(`hyperparcel${format}${body}`))
  }
  refuses('NEWER_FORMAT', () => parseInvite('hyperparcel2.'))
})

test('any text is an invite or refused with a reason', () => {
  const mangled = fc.tuple(invite, fc.nat(), fc.string({ maxLength: 3 })).map(([made, at, put]) => {
    const text = inviteText(made)
    return text.slice(0, at % text.length) + put + text.slice((at % text.length) + 1)
  })
  fc.assert(
    fc.property(fc.oneof(fc.string(), mangled), (text) => {
      const read = outcome(() => parseInvite(text))
      if ('value' in read) assert.equal(inviteText(read.value), text.trim())
      else assert.match(read.code, /^(BAD_INVITE|NEWER_FORMAT)$/)
    })
  )
})
