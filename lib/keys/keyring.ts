import { ParcelError } from '../errors.js'
import type { CoreKind } from '../format/core-header.js'
import { ENVELOPE_BYTES, KEY_ID_BYTES } from '../format/limits.js'
import { keyedHash } from './hash.js'
import { NS } from './namespaces.js'
import { keyIdOf, openBlock, sealBlock, type SealingKey } from './seal.js'

/** The secrets of one key epoch of a parcel. A vault has the control key alone. */
export interface EpochKeys {
  epoch: number
  epochKey: Buffer | null
  controlKey: Buffer
}

/**
 * The keys of a parcel, of every epoch that this host was a member in, and the sealing of blocks
 * with them. Old blocks stay sealed with the key of their own epoch.
 */
export class Keyring {
  readonly #epochs = new Map<number, EpochKeys>()
  readonly #byId = new Map<string, SealingKey>()
  readonly #sealing = new Map<CoreKind, SealingKey>()
  #current = -1
  readonly #parcel: Buffer

  constructor(parcel: Buffer, epochs: readonly EpochKeys[]) {
    this.#parcel = parcel
    for (const keys of epochs) this.add(keys)
  }

  add(keys: EpochKeys): void {
    this.#epochs.set(keys.epoch, keys)
    const isNewest = keys.epoch >= this.#current
    for (const kind of ['control', 'meta', 'data'] as const) {
      // Without a key of the newest epoch nothing is written: never under an older one.
      if (isNewest) this.#sealing.delete(kind)
      const sealing = this.#derive(keys, kind)
      if (sealing === null) continue
      this.#byId.set(Buffer.from(sealing.id).toString('hex'), sealing)
      if (isNewest) this.#sealing.set(kind, sealing)
    }
    if (isNewest) this.#current = keys.epoch
  }

  get current(): EpochKeys {
    const keys = this.#epochs.get(this.#current)
    if (keys === undefined) throw new ParcelError('BAD_KEY', 'this parcel has no keys on this host')
    return keys
  }

  list(): EpochKeys[] {
    return [...this.#epochs.values()]
  }

  /** Where members of the current epoch meet on the DHT. */
  topic(): Buffer {
    return keyedHash(NS.topic, this.current.epochKey ?? this.current.controlKey, this.#parcel)
  }

  /**
   * Seals a block in place. The plaintext stands behind ENVELOPE_BYTES of free space; the
   * returned block is the same buffer.
   */
  seal(kind: CoreKind, core: Buffer, index: number, block: Buffer): Buffer {
    return sealBlock(block, this.sealingKey(kind), core, index)
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

  #derive(keys: EpochKeys, kind: CoreKind): SealingKey | null {
    const secret = kind === 'control' ? keys.controlKey : keys.epochKey
    if (secret === null) return null
    const namespace = { control: NS.controlKey, meta: NS.metaKey, data: NS.dataKey }[kind]
    const key = keyedHash(secret, namespace, this.#parcel)
    return { key, id: keyedHash(key, NS.keyId).subarray(0, KEY_ID_BYTES) }
  }
}
