import { ParcelError } from '../errors.js'
import type { CoreKind } from '../format/core-header.js'
import type { EpochKeys } from '../format/epoch-keys.js'
import { ENVELOPE_BYTES, KEY_ID_BYTES } from '../format/limits.js'
import { keyedHash } from './hash.js'
import { NS } from './namespaces.js'
import { keyIdOf, openBlock, sealBlock, type SealingKey } from './seal.js'

/**
 * The keys of a parcel, of every epoch that this host was a member in, and the sealing of blocks
 * with them. Old blocks stay sealed with the key of their own epoch.
 */
export class Keyring {
  /** By the id of the record that began it, in hex; '' for the first. */
  readonly #epochs = new Map<string, EpochKeys>()
  readonly #byId = new Map<string, SealingKey>()
  readonly #sealing = new Map<CoreKind, SealingKey>()
  #current = ''
  readonly #parcel: Buffer

  /** The newest of the epochs is the current one, until `use` says otherwise. */
  constructor(parcel: Buffer, epochs: readonly EpochKeys[]) {
    this.#parcel = parcel
    for (const keys of epochs) this.add(keys)
    const [newest] = epochs.toSorted((a, b) => b.epoch - a.epoch)
    if (newest !== undefined) this.use(newest.record)
  }

  /** Keys to open blocks with; false if they were known. */
  add(keys: EpochKeys): boolean {
    const name = nameOf(keys.record)
    const known = this.#epochs.get(name)
    if (known !== undefined && (known.epochKey !== null || keys.epochKey === null)) return false
    // An epoch key may come later, as to a vault that becomes a reader; another control key is a lie.
    if (known !== undefined && !known.controlKey.equals(keys.controlKey)) return false
    this.#epochs.set(name, keys)
    this.#learn(keys)
    if (name === this.#current) this.use(keys.record)
    return true
  }

  /** Keys that somebody says are of an epoch: to open blocks with, and for nothing else. False if they were known. */
  addTold(keys: EpochKeys): boolean {
    const before = this.#byId.size
    this.#learn(keys)
    return this.#byId.size > before
  }

  /**
   * What is written from now on is sealed under the epoch that a record began. If its keys are not
   * here only control records can be written, under the newest that are: to say that something is wrong.
   */
  use(record: Buffer | null): void {
    this.#current = nameOf(record)
    this.#sealing.clear()
    const keys = this.#epochs.get(this.#current)
    if (this.#epochs.size === 0) return
    for (const kind of KINDS) {
      if (keys === undefined && kind !== 'control') continue
      const sealing = this.#derive(keys ?? this.newest, kind)
      if (sealing !== null) this.#sealing.set(kind, sealing)
    }
  }

  /** Whether the current epoch's keys are here. */
  get isCurrent(): boolean {
    return this.#epochs.has(this.#current)
  }

  /** Keys of the epoch that a record began; null when they are not here. */
  get(record: Buffer | null): EpochKeys | null {
    return this.#epochs.get(nameOf(record)) ?? null
  }

  /** Whether nothing but control records can be read: this host is a vault. */
  get isBlind(): boolean {
    return this.list().every(({ epochKey }) => epochKey === null)
  }

  /** Grows with every key that blocks can be opened with. */
  get size(): number {
    return this.#byId.size
  }

  has(record: Buffer | null): boolean {
    return this.#epochs.has(nameOf(record))
  }

  get current(): EpochKeys {
    const keys = this.#epochs.get(this.#current)
    if (keys === undefined) throw new ParcelError('BAD_KEY', 'this parcel has no keys on this host')
    return keys
  }

  list(): EpochKeys[] {
    return [...this.#epochs.values()]
  }

  /** Where members of the current epoch meet on the DHT; `withVaults`: where they meet vaults. */
  topic({ withVaults = false } = {}): Buffer {
    const { epochKey, controlKey } = this.newest
    return keyedHash(NS.topic, withVaults ? controlKey : (epochKey ?? controlKey), this.#parcel)
  }

  /**
   * Seals a block in place. The plaintext stands behind ENVELOPE_BYTES of free space; the
   * returned block is the same buffer.
   */
  seal(kind: CoreKind, core: Buffer, index: number, block: Buffer): Buffer {
    return sealBlock(block, this.sealingKey(kind), core, index)
  }

  /** Whether blocks of a kind can be written: a vault cannot write all. */
  canSeal(kind: CoreKind): boolean {
    return this.#sealing.has(kind)
  }

  /** The key that new blocks of a kind are sealed with. Throws BAD_KEY. */
  sealingKey(kind: CoreKind): SealingKey {
    const sealing = this.#sealing.get(kind)
    if (sealing === undefined)
      throw new ParcelError('BAD_KEY', `this host has no key to write ${kind}`)
    return sealing
  }

  /** Opens a block into a new buffer. Throws INTEGRITY (damaged), BAD_KEY (no such key here), NEWER_FORMAT. */
  open(core: Buffer, index: number, block: Buffer): Buffer {
    const sealing = this.openingKey(index, block)
    const out = Buffer.allocUnsafe(block.byteLength - ENVELOPE_BYTES)
    openBlock(block, sealing, core, index, out)
    return out
  }

  /** The key that a block was sealed with. Throws INTEGRITY, BAD_KEY (no such key here), NEWER_FORMAT. */
  openingKey(index: number, block: Buffer): SealingKey {
    const sealing = this.#byId.get(keyIdOf(block, index))
    if (sealing === undefined) {
      throw new ParcelError('BAD_KEY', `no key on this host opens block ${index} of a log`)
    }
    return sealing
  }

  /** The key of this id; null when this host was never given it. */
  sealingKeyOf(id: Buffer): SealingKey | null {
    return this.#byId.get(id.toString('hex')) ?? null
  }

  #learn(keys: EpochKeys): void {
    for (const kind of KINDS) {
      const sealing = this.#derive(keys, kind)
      if (sealing !== null) this.#byId.set(Buffer.from(sealing.id).toString('hex'), sealing)
    }
  }

  /** The current epoch's keys, or of those that are here the newest. Throws BAD_KEY. */
  get newest(): EpochKeys {
    if (this.isCurrent) return this.current
    const [newest] = this.list().toSorted((a, b) => b.epoch - a.epoch)
    return newest ?? this.current
  }

  #derive(keys: EpochKeys, kind: CoreKind): SealingKey | null {
    const secret = kind === 'control' ? keys.controlKey : keys.epochKey
    if (secret === null) return null
    const namespace = { control: NS.controlKey, meta: NS.metaKey, data: NS.dataKey }[kind]
    const key = keyedHash(secret, namespace, this.#parcel)
    return { key, id: keyedHash(key, NS.keyId).subarray(0, KEY_ID_BYTES) }
  }
}

const KINDS = ['control', 'meta', 'data'] as const

function nameOf(record: Buffer | null): string {
  return record?.toString('hex') ?? ''
}
