import assert from 'node:assert/strict'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { createHome, lockHome, openHome, phraseOf, readHome, seedFrom } from '../../lib/index.js'
import { Identity, randomBytes } from '../../lib/keys/identity.js'
import { scratch } from '../support/scratch.js'

/** What `init` wrote before there were passphrases. */
const FORMAT_1 = `hyperparcel identity 1\nname old\nsecret ${'01'.repeat(32)}${'02'.repeat(32)}${'03'.repeat(32)}\n`

test('24 words are a seed and back; another word, or two exchanged, are noticed', () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 32, maxLength: 32 }), fc.nat(22), (bytes, at) => {
      const seed = Buffer.from(bytes)
      const words = phraseOf(seed).split(' ')
      assert.equal(words.length, 24)
      assert.deepEqual(seedFrom(`  ${words.join(' \n ').toUpperCase()} `), seed)
      const [a = '', b = ''] = [words[at], words[at + 1]]
      const exchanged = words.with(at, b).with(at + 1, a)
      // One in 256 has the right checksum by chance.
      if (a !== b && isPhrase(exchanged)) assert.notDeepEqual(seedFrom(exchanged.join(' ')), seed)
      assert.throws(() => seedFrom(words.with(at, 'hyperparcel').join(' ')), {
        code: 'BAD_KEY',
        message: new RegExp(`word ${at + 1} `)
      })
      assert.throws(() => seedFrom(words.slice(1).join(' ')), { code: 'BAD_KEY' })
    })
  )
  // BIP 39's own vector: the English list, 256 bits of zeros.
  assert.equal(phraseOf(Buffer.alloc(32)), `${'abandon '.repeat(23)}art`)
})

function isPhrase(words: readonly string[]): boolean {
  try {
    seedFrom(words.join(' '))
    return true
  } catch {
    return false
  }
}

test('a key file of format 1 opens, and can be put under a passphrase', async (t) => {
  const dir = await home(t, FORMAT_1)
  const { identity, name } = await openHome(dir)
  assert.equal(name, 'old')
  assert.deepEqual(identity.export(), Identity.import(identity.export()).export())
  await lockHome(dir, { lock: 'passphrase', passphrase: 'correct horse' })
  const { key } = await readHome(dir)
  assert.equal(key.publicKey, identity.publicKey.toString('hex'))
  assert.deepEqual(
    await openHome(dir, 'correct horse').then((open) => open.identity.export()),
    identity.export()
  )
})

test('under a passphrase nothing of the secret is on the disk, and no other opens it', async (t) => {
  const dir = join(await scratch(t), 'home')
  const { identity } = await createHome(dir, 'host')
  await lockHome(dir, { lock: 'passphrase', passphrase: 'päss phrase' })
  const text = await readFile(join(dir, 'identity.key'), 'utf8')
  for (let at = 0; at < 96; at += 32) {
    assert.ok(!text.includes(identity.export().toString('hex', at, at + 32)))
  }
  await assert.rejects(openHome(dir), { code: 'LOCKED' })
  await assert.rejects(openHome(dir, 'pass phrase'), { code: 'BAD_KEY' })
  // Typed with a combining mark it is the same.
  const again = await openHome(dir, 'pa\u0308ss phrase')
  assert.deepEqual(again.identity.export(), identity.export())
  await assert.rejects(lockHome(dir, { lock: 'none', passphrase: '', before: 'wrong' }), {
    code: 'BAD_KEY'
  })
  await lockHome(dir, { lock: 'passphrase', passphrase: 'another one', before: 'päss phrase' })
  await assert.rejects(openHome(dir, 'päss phrase'), { code: 'BAD_KEY' })
  await lockHome(dir, { lock: 'none', passphrase: '', before: 'another one' })
  assert.deepEqual((await openHome(dir)).identity.export(), identity.export())
})

test('key files that are damaged, of a newer format, or want all memory are refused', async (t) => {
  const dir = join(await scratch(t), 'home')
  await createHome(dir, 'host')
  await lockHome(dir, { lock: 'passphrase', passphrase: 'correct horse' })
  const path = join(dir, 'identity.key')
  const good = await readFile(path, 'utf8')
  const bad: [string, string][] = [
    [good.replace('identity 2', 'identity 3'), 'NEWER_FORMAT'],
    [good.replace('lock passphrase', 'lock none'), 'BAD_KEY'],
    [good.replace(/lock passphrase .*/, 'lock passphrase'), 'BAD_KEY'],
    [good.replace(/lock passphrase \d+ \d+/, 'lock passphrase 3 999999999999'), 'BAD_KEY'],
    [good.replace(/lock passphrase \d+/, 'lock passphrase 999999'), 'BAD_KEY'],
    [good.replace(/public ../, `public ${good.includes('public 00') ? '11' : '00'}`), 'BAD_KEY'],
    [good.slice(0, -40), 'BAD_KEY'],
    [good.replace(/secret ..../, 'secret 0000'), 'BAD_KEY'],
    ['', 'BAD_KEY'],
    [`${good}\n`, 'BAD_KEY']
  ]
  for (const [text, code] of bad) {
    await writeFile(path, text)
    await assert.rejects(openHome(dir, 'correct horse'), { code }, text)
  }
})

test('a restored identity is the same host, with new keys for what is on its disk', () => {
  const identity = Identity.create()
  const again = Identity.restore(seedFrom(phraseOf(identity.seed)))
  assert.deepEqual(again.publicKey, identity.publicKey)
  assert.notDeepEqual(again.atRest, identity.atRest)
  assert.deepEqual(again.recoveryTopic, identity.recoveryTopic)
  assert.notDeepEqual(Identity.restore(randomBytes(32)).recoveryTopic, identity.recoveryTopic)
})

async function home(t: Parameters<typeof scratch>[0], text: string): Promise<string> {
  const dir = join(await scratch(t), 'home')
  await mkdir(dir, { mode: 0o700 })
  await writeFile(join(dir, 'identity.key'), text, { mode: 0o600 })
  return dir
}
