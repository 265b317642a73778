import assert from 'node:assert/strict'
import { readdir, readFile } from 'node:fs/promises'
import { test } from 'node:test'
import { z } from 'zod'
import { decompress } from '../../lib/chunk/compress.js'
import { ENVELOPE_BYTES } from '../../lib/format/limits.js'
import { decodePack, rawLength } from '../../lib/format/pack.js'
import { pad, unpad } from '../../lib/format/padding.js'
import { parseInvite } from '../../lib/format/pairing.js'
import { Identity } from '../../lib/keys/identity.js'
import { fastKeyedHash } from '../../lib/keys/hash.js'
import { Keyring } from '../../lib/keys/keyring.js'
import { primitives } from '../vectors/primitives.js'
import { records } from '../vectors/records.js'
import { numberedId, storage } from '../vectors/storage.js'
import { plain } from '../vectors/vector.js'
import { CODECS } from './codecs.js'
import {
  hash,
  namespace,
  blake3,
  openBlock,
  paddedLength,
  sealingKey,
  treeRoot,
  verify
} from './independent.js'

const FOLDER = new URL('../../../test/vectors/', import.meta.url)
const FILES = { ...primitives(), ...storage(), ...records() }

const bytes = z
  .string()
  .regex(/^([0-9a-f]{2})*$/)
  .transform((text) => Buffer.from(text, 'hex'))
const kind = z.enum(['control', 'meta', 'data'])
const derived = z.object({ key: bytes, id: bytes })
const secrets = z.object({
  parcel: bytes,
  epoch: z.number(),
  epochKey: bytes,
  controlKey: bytes,
  keys: z.object({ control: derived, meta: derived, data: derived }),
  topic: bytes,
  vaultTopic: bytes,
  channel: bytes
})

async function load<T>(name: string, each: z.ZodType<T>): Promise<T[]> {
  const text: unknown = JSON.parse(await readFile(new URL(`${name}.json`, FOLDER), 'utf8'))
  return z.strictObject({ about: z.string(), cases: z.array(each).min(1) }).parse(text).cases
}

async function epochSecrets() {
  const [first] = await load('keys', secrets)
  assert.ok(first !== undefined)
  return first
}

test('there is a committed file for each kind of vector and no other', async () => {
  const names = (await readdir(FOLDER)).filter((name) => name.endsWith('.json')).toSorted()
  assert.deepEqual(
    names,
    Object.keys(FILES)
      .map((name) => `${name}.json`)
      .toSorted()
  )
})

for (const [name, file] of Object.entries(FILES)) {
  test(`${name}: today's code writes what is committed`, async () => {
    const text = await readFile(new URL(`${name}.json`, FOLDER), 'utf8')
    assert.deepEqual(JSON.parse(text), file)
  })

  test(`${name}: today's code reads what is committed`, async () => {
    const recorded = z.object({ record: z.string(), value: z.unknown(), bytes })
    for (const each of await load(name, z.record(z.string(), z.unknown()))) {
      // A case without a record is a hash, a key or the like, and has a test of its own.
      if (each.record === undefined) continue
      const { record, value, bytes: written } = recorded.parse(each)
      const codec = CODECS.find((one) => one.name === record)
      assert.ok(codec !== undefined, record)
      assert.deepEqual(plain(codec.decode(written)), value)
      assert.deepEqual(codec.recode(written), written)
    }
  })
}

test('namespaces are the hashes of their names', async () => {
  const names: Record<string, string> = {
    chunk: 'chunk id',
    page: 'manifest page',
    version: 'version id',
    versionSignature: 'version signature',
    control: 'control record id',
    controlSignature: 'control record signature',
    joinSignature: 'join request signature',
    envelope: 'block envelope',
    dataKey: 'data key',
    metaKey: 'meta key',
    controlKey: 'control key',
    keyId: 'key id',
    earlierKeys: 'earlier epoch keys',
    pairingNumber: 'pairing number',
    pairingLink: 'pairing link',
    pairingKey: 'pairing key',
    factsSignature: 'facts signature',
    machine: 'machine number',
    fingerprint: 'fingerprint words',
    topic: 'swarm topic',
    recovery: 'recovery topic',
    pair: 'pair secret',
    lanTag: 'tag on a network',
    knock: 'knock at a port',
    channel: 'parcel channel',
    index: 'chunk index',
    atRest: 'sealed file'
  }
  const found = await load('namespaces', z.object({ use: z.string(), value: bytes }))
  assert.deepEqual(found.map(({ use }) => use).toSorted(), Object.keys(names).toSorted())
  for (const { use, value } of found) assert.deepEqual(value, namespace(names[use] ?? ''), use)
})

test('ids of chunks and hashes of pages follow from the text of the format alone', async () => {
  const shape = {
    kind: z.enum(['chunk', 'page']),
    chunking: z.number().optional(),
    length: z.number(),
    fill: z.number(),
    id: bytes
  }
  for (const { kind: what, chunking, length, fill, id } of await load('hashes', z.object(shape))) {
    const key = namespace(what === 'chunk' ? 'chunk id' : 'manifest page')
    const of = chunking === 2 ? blake3 : hash
    assert.deepEqual(of(key, Buffer.alloc(length, fill)), id)
  }
})

test('BLAKE3 is the one of its published vectors', () => {
  const key = Buffer.from('whats the Elvish word for friend')
  const published: [length: number, hash: string][] = [
    [0, '92b2b75604ed3c761f9d6f62392c8a9227ad0ea3f09573e783f1498a4ed60d26'],
    [1, '6d7878dfff2f485635d39013278ae14f1454b8c0a3a2d34bc1ab38228a80c95b']
  ]
  const hashOf = fastKeyedHash(key)
  for (const [length, hash] of published) {
    assert.equal(hashOf(Buffer.alloc(length)).toString('hex'), hash)
  }
})

test('keys, topic and channel follow from the secrets', async () => {
  const found = await epochSecrets()
  for (const each of kind.options) assert.deepEqual(sealingKey(each, found), found.keys[each])
  const topic = namespace('swarm topic')
  assert.deepEqual(hash(topic, found.epochKey, found.parcel), found.topic)
  assert.deepEqual(hash(topic, found.controlKey, found.parcel), found.vaultTopic)
  assert.deepEqual(hash(namespace('parcel channel'), found.parcel), found.channel)
})

test('padding follows from the length', async () => {
  for (const each of await load('padding', z.object({ body: z.number(), plaintext: z.number() }))) {
    assert.equal(paddedLength(each.body), each.plaintext)
  }
})

test('a sealed block opens by the text of the format alone, and by today’s code', async () => {
  const found = await epochSecrets()
  const ring = new Keyring(found.parcel, [{ ...found, record: null }])
  const shape = { kind, core: bytes, index: z.number(), body: bytes, block: bytes }
  for (const { kind: what, core, index, body, block } of await load(
    'sealed-blocks',
    z.object(shape)
  )) {
    const key = sealingKey(what, found)
    assert.deepEqual(openBlock(key, core, index, block), body)
    assert.deepEqual(unpad(ring.open(core, index, block)), body)
    assert.throws(() => openBlock(key, core, index + 1, block))
    // What today's code seals, under a nonce of its own, opens by the text alone too.
    const fresh = ring.seal(what, core, index, pad([body], ENVELOPE_BYTES))
    assert.notDeepEqual(fresh, block)
    assert.deepEqual(openBlock(key, core, index, fresh), body)
  }
})

test('the frame of a pack gives its items', async () => {
  for (const { bytes: pack } of await load('packs', z.object({ bytes }))) {
    const { codec, frame, items } = decodePack(pack)
    const raw = await decompress(codec, frame, rawLength(items))
    const expected = codec === 'none' ? 'abcde' : `hello${'x'.repeat(95)}`
    assert.equal(raw.toString(), expected)
  }
})

test('the hash of an id page follows from its bytes', async () => {
  const pages = await load('pages', z.object({ bytes, hash: bytes.optional() }))
  for (const page of pages) {
    if (page.hash === undefined) continue
    assert.deepEqual(hash(namespace('manifest page'), page.bytes), page.hash)
  }
})

test('the root of a file follows from its entries', async () => {
  const run = z.object({ kind: z.enum(['hole', 'zero', 'chunk']), count: z.number() })
  const shape = { name: z.string(), runs: z.array(run), root: bytes.nullable() }
  for (const { name, runs, root } of await load('trees', z.object(shape))) {
    let next = 0
    const entries = runs.flatMap((each) =>
      Array.from({ length: each.count }, () => {
        if (each.kind === 'chunk') return Buffer.concat([Buffer.from([2]), numberedId(next++)])
        return Buffer.from([each.kind === 'hole' ? 0 : 1])
      })
    )
    assert.deepEqual(treeRoot(entries), root, name)
  }
})

test('ids and signatures of versions and control records follow from their bytes', async () => {
  const seed = Buffer.from(Array.from({ length: 32 }, (_, i) => 0xc0 + i))
  const { publicKey } = new Identity(seed, Buffer.alloc(32), Buffer.alloc(32))
  for (const [file, name] of [
    ['versions', 'version'],
    ['control-records', 'control record']
  ] as const) {
    for (const each of await load(file, z.object({ bytes, id: bytes, signature: bytes }))) {
      assert.deepEqual(hash(namespace(`${name} id`), each.bytes), each.id)
      assert.ok(verify(`${name} signature`, each.bytes, each.signature, publicKey))
      assert.ok(!verify(`${name} id`, each.bytes, each.signature, publicKey))
    }
  }
})

test('a link, a code and a join request are read', async () => {
  const value = z.record(z.string(), z.unknown())
  const invites = (
    await load('pairing', z.object({ text: z.string(), value }).or(z.object({})))
  ).flatMap((each) => ('text' in each ? [each] : []))
  assert.equal(invites.length, 2)
  for (const { text, value } of invites) assert.deepEqual(plain(parseInvite(text)), value)
  const signed = z.object({ session: bytes, value: z.object({ host: bytes, signature: bytes }) })
  const requests = (await load('pairing', signed.or(z.object({})))).flatMap((each) =>
    'session' in each ? [each] : []
  )
  assert.equal(requests.length, 1)
  for (const { session, value } of requests) {
    assert.ok(verify('join request signature', session, value.signature, value.host))
  }
})
