import {
  encodeControlRecord,
  type ControlBody,
  type ControlRecord
} from '../../lib/format/control-record.js'
import { encodeFacts, encodeMetaRecord, type MetaRecord } from '../../lib/format/meta-record.js'
import {
  encodeJoinReply,
  encodeJoinRequest,
  codeText,
  linkText,
  type JoinReply
} from '../../lib/format/pairing.js'
import { versionExtensions, type CoreHead, type Version } from '../../lib/format/version.js'
import {
  encodeAnnouncements,
  encodeHeads,
  encodeHello,
  type SignedRecord
} from '../../lib/format/wire.js'
import { keyedHash } from '../../lib/keys/hash.js'
import { Identity } from '../../lib/keys/identity.js'
import { encodeEpochKeys, type EpochKeys } from '../../lib/format/epoch-keys.js'
import {
  encodeRecovery,
  encodeRecoveryAnswer,
  type Recovery,
  type RecoveryAnswer
} from '../../lib/format/recovery.js'
import { NS } from '../../lib/keys/namespaces.js'
import { signGenesis } from '../../lib/parcel/members/control.js'
import { signVersion } from '../../lib/parcel/history.js'
import { count, plain, type VectorFile } from './vector.js'

const SEED = count(0xc0)
const author = new Identity(SEED, count(0), count(0))
const genesis = signGenesis(author, count(0x21), 1_700_000_000_000)
const parcel = genesis.id
const head: CoreHead = { key: count(0x31), fork: 0, length: 300, treeHash: count(0x32) }
const optional = { tag: 9, critical: false, value: Buffer.from('kept') }

const versions: Version[] = [
  {
    chunking: 1,
    parcel,
    author: author.publicKey,
    parents: [],
    created: 1_700_000_000_000,
    driver: 'folder',
    facts: {},
    table: { size: 0, root: null },
    totals: { files: 0, bytes: 0, stored: 0 },
    message: '',
    leaseEpoch: 0,
    cores: [],
    extensions: []
  },
  {
    chunking: 2,
    parcel,
    author: author.publicKey,
    parents: [count(0x02), count(0x01)],
    created: 1_700_000_001_000,
    driver: 'qemu',
    facts: { machine: 'pc-q35-7.2', __proto__x: 'é', cpu: 'qemu64' },
    table: { size: 70_000, root: count(0x41) },
    totals: { files: 3, bytes: 2 ** 40, stored: 12_345 },
    message: 'before the update',
    leaseEpoch: 4,
    cores: [head, { ...head, key: count(0x33), fork: 2, length: 2 ** 40 }],
    extensions: [{ ...optional, tag: 300 }, optional]
  },
  {
    chunking: 2,
    parcel,
    author: author.publicKey,
    parents: [count(0x01)],
    created: 1_700_000_002_000,
    driver: 'folder',
    facts: {},
    table: { size: 0, root: null },
    totals: { files: 0, bytes: 0, stored: 0 },
    message: 'kept',
    leaseEpoch: 0,
    cores: [],
    extensions: versionExtensions('bureau é', 300)
  }
]

const bodies: ControlBody[] = [
  { type: 'member', host: count(0x51), role: 'owner' },
  { type: 'member', host: count(0x52), role: 'runner' },
  { type: 'member', host: count(0x53), role: 'reader' },
  { type: 'member', host: count(0x54), role: 'vault' },
  { type: 'revoke', host: count(0x51), cuts: [head] },
  { type: 'epoch', number: 1, sealed: [{ host: count(0x52), keys: count(0x61, 112) }] },
  {
    type: 'cores',
    incarnation: {
      id: count(0x62, 16),
      control: count(0x63),
      meta: count(0x64),
      data: [count(0x65), count(0x66)]
    }
  },
  {
    type: 'receipt',
    version: count(0x67),
    cores: [
      { head, blocks: null },
      { head, blocks: Buffer.from([0b101, 1]) }
    ]
  },
  { type: 'pin', version: count(0x67), pinned: true },
  { type: 'pin', version: count(0x67), pinned: false },
  {
    type: 'drop',
    core: count(0x65),
    ranges: [
      { start: 0, end: 5 },
      { start: 300, end: 301 }
    ]
  },
  { type: 'lease', number: 2, holder: count(0x52), version: count(0x67) },
  { type: 'unknown', tag: 77, bytes: Buffer.from('of a later version') },
  { type: 'recovery', topic: count(0x71), box: count(0x72) },
  {
    type: 'forked',
    core: head.key,
    start: 256,
    signature: Buffer.concat([count(0x73), count(0x74), count(0x75)]),
    head,
    repeated: { ...head, key: count(0x76), length: 7 }
  }
]

function signedControl(record: ControlRecord) {
  const bytes = encodeControlRecord(record)
  return {
    record: 'control record',
    value: plain({ ...record, parents: record.parents.toSorted((a, b) => Buffer.compare(a, b)) }),
    bytes: plain(bytes),
    id: plain(keyedHash(NS.control, bytes)),
    signature: plain(author.sign(NS.controlSignature, bytes))
  }
}

function control(body: ControlBody, sequence: number) {
  const extensions = body.type === 'unknown' ? [optional] : []
  const fields = { parcel, author: author.publicKey, sequence, epoch: 0, extensions }
  const parents = sequence === 1 ? [parcel] : [count(0x72), count(0x71)]
  return signedControl({ ...fields, parents, created: 1_700_000_000_000 + sequence, body })
}

function version(value: Version) {
  const { id, bytes, signature } = signVersion(author, value)
  const sorted = {
    ...value,
    parents: value.parents.toSorted((a, b) => Buffer.compare(a, b)),
    extensions: value.extensions.toSorted((a, b) => a.tag - b.tag)
  }
  return {
    record: 'version',
    value: plain(sorted),
    bytes: plain(bytes),
    id: plain(id),
    signature: plain(signature)
  }
}

function meta(value: Exclude<MetaRecord, { type: 'unknown' }>) {
  return { record: 'meta record', value: plain(value), bytes: plain(encodeMetaRecord(value)) }
}

const session = count(0x81, 64)
const link = { id: count(1, 16), secret: count(0x11, 16), expires: 1_700_000_600_000 }
const code = { number: 48_213, words: ['canvas', 'otter'] }
const reply: JoinReply = {
  parcel,
  name: 'laptop-vm',
  driver: 'qemu',
  inviter: author.publicKey,
  inviterName: 'atelier é',
  role: 'reader',
  epoch: 3,
  record: count(0x86),
  epochKey: count(0x82),
  controlKey: count(0x83),
  announcements: [
    { bytes: Buffer.from('a signed record'), signature: count(0x84, 64) },
    { bytes: Buffer.from('another'), signature: count(0x85, 64) }
  ]
}
const request = {
  host: author.publicKey,
  name: 'kontor',
  signature: author.sign(NS.joinSignature, session)
}
const hello = { min: 1, max: 1, software: 'hyperparcel 0.1.0' }
const announced = [{ bytes: genesis.bytes, signature: genesis.signature }]
const heads = [count(0x91), count(0x92)]

const saidFacts = encodeFacts(parcel, {
  created: 1_700_000_000_000,
  facts: { software: 'hyperparcel 0.1.0', vmm: 'qemu 7.2', cpu: '' }
})
const said = (fill: number): SignedRecord => ({
  bytes: Buffer.alloc(5, fill),
  signature: Buffer.alloc(64, fill + 1)
})
const recoveryAnswer: RecoveryAnswer = {
  parcel: count(1),
  record: said(1),
  announcements: [said(3), said(5)]
}
const earlier: [EpochKeys, EpochKeys] = [
  { epoch: 0, record: null, epochKey: count(0xa1), controlKey: count(0xa2) },
  { epoch: 7, record: count(0xa3), epochKey: null, controlKey: count(0xa4) }
]
const recovery: Recovery = { name: 'work', driver: 'qemu', epochs: earlier }

export function records(): Record<string, VectorFile> {
  const { id, ...fields } = signVersion(author, versions[1] ?? fail())
  const place = { core: 0, block: 300, ordinal: 2 }
  return {
    versions: {
      about: 'Version records of the host whose identity seed is c0, c1, … df.',
      cases: versions.map(version)
    },
    'meta-records': {
      about: 'Records of a meta core.',
      cases: [
        meta({ type: 'version', ...fields }),
        meta({
          type: 'places',
          places: {
            version: id,
            cores: [count(0x31), count(0x33)],
            table: place,
            roots: { size: 9, root: count(0x42), place }
          }
        }),
        meta({
          type: 'places',
          places: {
            version: id,
            cores: [],
            table: null,
            roots: { size: 0, root: null, place: null }
          }
        }),
        meta({ type: 'name', name: 'atelier é' }),
        meta({
          type: 'facts',
          bytes: saidFacts,
          signature: author.sign(NS.factsSignature, saidFacts)
        }),
        meta({
          type: 'trace',
          trace: {
            version: id,
            files: [Buffer.from('state/memory'), Buffer.from('disk.img')],
            touched: [
              { file: 1, chunk: 0, pages: 1 },
              { file: 0, chunk: 16_383, pages: 0x8421 },
              { file: 0, chunk: 16_383, pages: 0x0002 }
            ],
            blocks: [
              { core: 1, block: 300, size: 40_000, isPacked: true },
              { core: 0, block: 7, size: 0, isPacked: false }
            ],
            first: 1
          }
        }),
        meta({ type: 'tag', tag: { name: 'avant é', version: id, number: 300 } }),
        meta({ type: 'tag', tag: { name: 'avant é', version: null, number: 301 } }),
        meta({ type: 'running', running: { number: 4, since: 1_700_000_003_000 } }),
        meta({ type: 'running', running: { number: 5, since: null } }),
        meta({
          type: 'moved',
          moved: {
            places: {
              version: id,
              cores: [count(0x33), count(0x31)],
              table: place,
              roots: { size: 9, root: count(0x42), place }
            },
            heads: [head]
          }
        })
      ]
    },
    'control-records': {
      about: 'Control records of the same host. The id of the first is the parcel’s.',
      cases: [signedControl(genesis.record), ...bodies.map((body, i) => control(body, i + 1))]
    },
    'epoch-keys': {
      about:
        'Keys of epochs, as they stand in the boxes of an epoch record, for the parcel 01, 02, …',
      cases: [[earlier[1]], earlier].map((epochs) => ({
        value: plain(epochs),
        bytes: plain(encodeEpochKeys(count(1), epochs))
      }))
    },
    recovery: {
      about:
        'What brings a host back, before it is sealed to it, for the parcel 01, 02, …; and what a ' +
        'member answers who asks for it.',
      cases: [
        {
          record: 'recovery',
          value: plain(recovery),
          bytes: plain(encodeRecovery(count(1), recovery))
        },
        {
          record: 'recovery answer',
          value: plain(recoveryAnswer),
          bytes: plain(encodeRecoveryAnswer(recoveryAnswer))
        }
      ]
    },
    pairing: {
      about:
        'Invites, and what newcomer and inviter exchange. The request is signed over the session.',
      cases: [
        { name: 'link', value: plain(link), text: linkText(link) },
        { name: 'code', value: plain(code), text: codeText(code) },
        {
          record: 'join request',
          session: plain(session),
          value: plain(request),
          bytes: plain(encodeJoinRequest(request))
        },
        {
          record: 'join reply',
          value: plain(reply),
          bytes: plain(encodeJoinReply(reply))
        }
      ]
    },
    channel: {
      about: 'The handshake and the messages of a parcel’s channel.',
      cases: [
        { record: 'hello', value: plain(hello), bytes: plain(encodeHello(hello)) },
        {
          record: 'announcements',
          value: plain(announced),
          bytes: plain(encodeAnnouncements(announced))
        },
        { record: 'announcements', value: [], bytes: plain(encodeAnnouncements([])) },
        { record: 'heads', value: plain(heads), bytes: plain(encodeHeads(heads)) }
      ]
    }
  }
}

function fail(): never {
  throw new Error('there are two versions')
}
