import type { Duplex } from 'node:stream'
import Hypercore, { type Peer } from 'hypercore'
import Protomux from 'protomux'
import { isDamage, ParcelError } from '../errors.js'
import type { CoreKind } from '../format/core-header.js'
import { ENVELOPE_BYTES } from '../format/limits.js'
import { pad, unpad } from '../format/padding.js'
import type { ProofNode } from '../format/recipe.js'
import type { SignedState } from '../format/signed-state.js'
import type { CoreHead } from '../format/version.js'
import type { KeyPair } from '../keys/identity.js'
import type { Keyring } from '../keys/keyring.js'
import type { SealingKey } from '../keys/seal.js'
import { Hedge } from './hedge.js'
import { keepTree } from './keep-tree.js'
import { answerInTurn } from './answering.js'
import type { RateLimit } from './rate-limit.js'
import { limitReceiving } from './receiving.js'
import { shareWithNeighbours } from './neighbours.js'
import { watchUnderWay } from './under-way.js'
import {
  isSignedAt,
  onOtherPast,
  provenHash,
  rewind,
  signatureAt,
  signedState
} from './signed-state.js'

export interface ReadOptions {
  /** Wait for a block that is not here until this aborts; null: do not wait. */
  wait?: AbortSignal | null
}

/** Blocks from `start` to before `end`. */
export interface BlockRange {
  start: number
  end: number
}

/** What came of comparing a block with its log's signature. */
export type Proved =
  { state: 'proved' | 'unproved'; block: Buffer } | { state: 'damaged'; block: null }

/** A wait that is called off is called off again after so long, as long as it goes on, ms. */
const STOP_AGAIN = 20

/** More ranges of one log are not kept: no honest writer has them. */
const MOST_DROPPED = 65_536

/**
 * One core whose every block is sealed. The only place that appends to or reads from a hypercore,
 * so no block can be written in the clear or be served unverified.
 */
export class Log {
  readonly kind: CoreKind
  readonly #core: Hypercore
  readonly #hedge: Hedge
  readonly #keyring: Keyring
  readonly #keyPair: KeyPair | null
  readonly #explain: (error: unknown) => Promise<ParcelError>
  #appending: Promise<unknown> = Promise.resolve()
  /** Length that this process has appended to or found at the start; of an own log, what its writer surely has. */
  #ownLength: number
  #isContinuedElsewhere = false
  #waiting = 0
  /** Ascending, apart from each other. */
  #dropped: readonly BlockRange[] = []
  readonly #dropListeners = new Set<() => void>()
  #isLimited = false
  #isReceivingLimited = false
  #isShared = false
  readonly #conflictListeners = new Set<() => void>()
  readonly #forgotten = new Set<number>()
  readonly #inserted = new Set<(index: number, bytes: number) => void>()

  constructor(
    core: Hypercore,
    kind: CoreKind,
    keyring: Keyring,
    keyPair: KeyPair | null,
    explain: (error: unknown) => Promise<ParcelError>
  ) {
    this.#explain = explain
    this.#core = core
    this.kind = kind
    this.#keyring = keyring
    this.#keyPair = keyPair
    this.#ownLength = core.length
    // Each waiting `get` and each peer listens; the number is bounded by them, not by a leak.
    this.#hedge = new Hedge(core)
    core.setMaxListeners(0)
    keepTree(core)
    onOtherPast(core, () => {
      for (const listener of this.#conflictListeners) listener()
    })
  }

  get key(): Buffer {
    return this.#core.key
  }

  get length(): number {
    return this.#core.length
  }

  /** Of all its blocks, here or not, as they are stored. */
  get byteLength(): number {
    return this.#core.byteLength
  }

  /** About how many bytes of its blocks are here. */
  get storedBytes(): number {
    const { length, byteLength } = this.#core
    return length === 0 ? 0 : (byteLength / length) * this.#core.core.bitfield.countSet(0, length)
  }

  /** Whether somebody reads a block, and would wait for it. */
  get isRead(): boolean {
    return this.#waiting > 0
  }

  get isOwn(): boolean {
    return this.#keyPair !== null
  }

  get ownLength(): number {
    return this.#ownLength
  }

  /** Whether others have blocks of it that this host did not append, although only it writes it: for good. */
  get isContinuedElsewhere(): boolean {
    this.#isContinuedElsewhere ||= this.#core.length > this.#ownLength
    return this.#isContinuedElsewhere
  }

  /** Somebody has proved to have more of it. From now on nothing is appended. */
  noteContinuedElsewhere(): void {
    this.#isContinuedElsewhere = true
  }

  /** Blocks from the first on without a gap, but for dropped ones. */
  get contiguousLength(): number {
    return this.#firstMissing(this.#core.contiguousLength)
  }

  /** Blocks before `end` that are here, or dropped. */
  count(end: number): number {
    const { bitfield } = this.#core.core
    let count = bitfield.countSet(0, end)
    for (const range of this.#dropped) {
      const length = Math.min(range.end, end) - range.start
      if (length > 0) count += length - bitfield.countSet(range.start, length)
    }
    return count
  }

  /** How many peers replicate this core now. */
  get peerCount(): number {
    return this.#core.peers.length
  }

  /**
   * Appends bodies, each given as parts, in one batch. Not durable before `Store.flush`.
   * Returns the index of the first.
   */
  append(bodies: readonly (readonly Uint8Array[])[]): Promise<number> {
    const run = this.#appending.then(() => this.#append(bodies))
    this.#appending = run.catch(() => {})
    return run
  }

  async #append(bodies: readonly (readonly Uint8Array[])[]): Promise<number> {
    const first = this.#core.length
    const blocks = bodies.map((parts, i) =>
      this.#keyring.seal(this.kind, this.key, first + i, pad(parts, ENVELOPE_BYTES))
    )
    await this.#appendBlocks(blocks)
    return first
  }

  async #appendBlocks(blocks: Buffer[]): Promise<void> {
    if (this.#keyPair === null) throw new ParcelError('FAILED', "another host's log is read-only")
    // Another past of it would begin here.
    if (this.isContinuedElsewhere) throw new ContinuedElsewhere()
    const before = this.#core.length
    const length = before + blocks.length
    this.#ownLength = length
    const made = await this.#core
      .append(blocks, { keyPair: this.#keyPair })
      .catch(async (error: unknown) => {
        this.#ownLength = before
        throw await this.#explain(error)
      })
    if (made.length === length) return
    // Blocks came in between: these are sealed for other places than theirs.
    this.#ownLength = before
    this.noteContinuedElsewhere()
    throw new ContinuedElsewhere()
  }

  /** The key that `appendSealed` takes blocks under. */
  get sealing(): SealingKey {
    return this.#keyring.sealingKey(this.kind)
  }

  /**
   * Appends blocks that were sealed elsewhere for the indexes from `first` on. They may be reused
   * when it settles. Not durable before `Store.flush`.
   */
  appendSealed(blocks: Buffer[], first: number): Promise<void> {
    const run = this.#appending.then(async () => {
      if (this.isContinuedElsewhere) throw new ContinuedElsewhere()
      if (first !== this.#core.length) {
        throw new ParcelError('FAILED', 'a log was written by two at once, or closed')
      }
      await this.#appendBlocks(blocks)
    })
    this.#appending = run.catch(() => {})
    return run
  }

  /**
   * The body of a block, verified. A block that is not here is UNREACHABLE, or waited for until
   * `wait` aborts. Throws UNREACHABLE, INTEGRITY, BAD_KEY.
   */
  async read(index: number, options: ReadOptions = {}): Promise<Buffer> {
    const block = await this.#get(index, options)
    return unpad(this.#keyring.open(this.key, index, block))
  }

  /** A block as it is stored, and the key that opens it. Throws like `read`. */
  async readSealed(
    index: number,
    options: ReadOptions = {}
  ): Promise<{ block: Buffer; sealing: SealingKey }> {
    const block = await this.#get(index, options)
    return { block, sealing: this.#keyring.openingKey(index, block) }
  }

  async #get(index: number, { wait = null }: ReadOptions): Promise<Buffer> {
    // A request by itself, so that it can be called off; a time limit would ask again and again,
    // and a slow link would never get done with any.
    const activeRequests: unknown[] = []
    let again: NodeJS.Timeout | undefined
    const stop = (): void => {
      this.#core.clearRequests(activeRequests, new Stopped())
      // It looks into the store first: its request may be still to come.
      again = setTimeout(stop, STOP_AGAIN)
    }
    wait?.addEventListener('abort', stop, { once: true })
    const isWanted = wait !== null && !wait.aborted
    if (isWanted) this.#waiting++
    const ended = isWanted && !this.has(index) ? this.#hedge.watch(index) : () => {}
    try {
      const block = await this.#core.get(index, { wait: isWanted, activeRequests })
      ended(block !== null)
      if (block !== null) return block
    } catch (error) {
      ended(false)
      if (isDamage(error)) throw ParcelError.from(error, `block ${index} of a log`)
      throw new ParcelError('UNREACHABLE', `block ${index} of a log could not be fetched`, error)
    } finally {
      if (isWanted) this.#waiting--
      wait?.removeEventListener('abort', stop)
      clearTimeout(again)
    }
    throw new ParcelError(
      'UNREACHABLE',
      'a part of this version is not on this host yet: connect to a host that has it'
    )
  }

  /** Asks those again who were given up for what they did not have. */
  retry(): void {
    this.#hedge.retry()
  }

  /** Whether all blocks in [start, end) are here, or dropped. */
  has(start: number, end = start + 1): boolean {
    return start >= end || this.#firstMissing(start) >= end
  }

  /** The blocks that are here. */
  *ranges(): Generator<BlockRange> {
    const { bitfield } = this.#core.core
    for (let start = bitfield.firstSet(0); start !== -1 && start < this.length;) {
      const unset = bitfield.firstUnset(start)
      const end = unset === -1 ? this.length : Math.min(unset, this.length)
      yield { start, end }
      start = bitfield.firstSet(end)
    }
  }

  /** Whether the writer has said that it does not need a block. */
  isDropped(index: number): boolean {
    return this.#droppedAt(index) !== null
  }

  /**
   * Blocks that the writer does not need any more: nobody waits for them. In an own log they are
   * cleared, and in any with `isCleared`; the store gives their space back when it is compacted.
   * Returns how many blocks were cleared.
   */
  async drop(ranges: readonly BlockRange[], { isCleared = this.isOwn } = {}): Promise<number> {
    const merged = merge([...this.#dropped, ...ranges])
    if (merged.length > MOST_DROPPED) return 0
    this.#dropped = merged
    for (const listener of this.#dropListeners) listener()
    if (!isCleared) return 0
    let cleared = 0
    for (const { start, end } of ranges) {
      // Never the last block: the tree hash could not be told without it.
      const count = Math.min(end, this.length - 1) - start
      if (count <= 0) continue
      const set = this.#core.core.bitfield.countSet(start, count)
      if (set === 0) continue
      await this.#core.clear(start, start + count)
      cleared += set
    }
    return cleared
  }

  /** Takes back what `drop` was told: it was not the writer who said so. */
  undrop(): void {
    this.#dropped = []
    for (const listener of this.#dropListeners) listener()
  }

  /** Calls back when blocks were dropped or forgotten. Returns how to stop. */
  onDrop(listener: () => void): () => void {
    this.#dropListeners.add(listener)
    return () => this.#dropListeners.delete(listener)
  }

  /** The signed state of the log at a length that is here. Throws UNREACHABLE when its nodes are not. */
  async head(length = this.#core.length): Promise<CoreHead> {
    // hypercore's own would wait for the last block, which may be on a host that never comes back.
    const treeHash = await Hypercore.treeHashFromStorage(this.#core, length).catch(
      (error: unknown) => {
        if (isDamage(error)) throw ParcelError.from(error)
        throw new ParcelError('UNREACHABLE', `a log's state at ${length} is not here`, error)
      }
    )
    return { key: this.key, fork: this.#core.fork, length, treeHash }
  }

  /** What its writer has signed last, to be shown to the writer, whose own is `length` long. */
  async signedState(length: number): Promise<SignedState | null> {
    const state = await signedState(this.#core)
    if (state === null) return null
    const { treeHash } = await this.head(Math.min(length, state.length))
    return { ...state, asked: treeHash }
  }

  /** The tree hash of a state that a peer shows; null: this log's writer has not signed it. */
  provenHash(state: SignedState): Promise<Buffer | null> {
    return provenHash(this.#core, state)
  }

  /** The writer's signature of what the log was at an earlier length; null: this host cannot sign it. */
  async signatureAt(length: number): Promise<Buffer | null> {
    return this.#keyPair === null ? null : signatureAt(this.#core, length, this.#keyPair)
  }

  /** Whether its writer has signed what it was at an earlier length. */
  isSignedAt(length: number, signature: Buffer): Promise<boolean> {
    return isSignedAt(this.#core, length, signature)
  }

  /** Takes the log back to an earlier length that its writer has signed. Throws INTEGRITY when it has not. */
  async rewind(length: number, signature: Buffer): Promise<void> {
    if (length >= this.length) return
    this.#detachAll()
    await rewind(this.#core, length, signature).catch((error: unknown) => {
      throw new ParcelError(
        'INTEGRITY',
        'a log cannot be taken back: its signature is wrong',
        error
      )
    })
  }

  /** Blocks in [start, end) that are not here, and not dropped. */
  missing(start: number, end: number, most = Infinity): number[] {
    const missing: number[] = []
    let index = this.#firstMissing(start)
    while (index < end && missing.length < most) {
      missing.push(index)
      index = this.#firstMissing(index + 1)
    }
    return missing
  }

  /** From `from` on; the length when nothing is missing. */
  #firstMissing(from: number): number {
    for (let at = from; at < this.length;) {
      const unset = this.#core.core.bitfield.firstUnset(at)
      if (unset === -1 || unset >= this.length) break
      const dropped = this.#droppedAt(unset)
      if (dropped === null) return unset
      at = dropped.end
    }
    return Math.max(from, this.length)
  }

  #droppedAt(index: number): BlockRange | null {
    let [low, high] = [0, this.#dropped.length]
    while (low < high) {
      const middle = (low + high) >> 1
      if ((this.#dropped[middle]?.end ?? 0) <= index) low = middle + 1
      else high = middle
    }
    const range = this.#dropped[low]
    return range !== undefined && range.start <= index ? range : null
  }

  /**
   * Asks peers for blocks; true when all are here, false when it was cancelled or failed. `isUrgent`: a single
   * one is asked of a second peer soon.
   */
  fetch(
    blocks: readonly number[],
    { isUrgent = true } = {}
  ): { done: Promise<boolean>; cancel: () => void } {
    const download = this.#core.download({ blocks })
    const [only, ...others] = blocks
    const ended =
      only === undefined || others.length > 0 ? () => {} : this.#hedge.watch(only, { isUrgent })
    const done = download.done().then(
      (isAll) => isAll,
      () => false
    )
    void done.then(ended)
    return { done, cancel: () => download.destroy() }
  }

  /** A block as it is stored, what opens it, and the nodes that prove it to who lacks `nodes` of them. */
  async proof(
    index: number,
    nodes: number
  ): Promise<{ block: Buffer; sealing: SealingKey; fork: number; nodes: ProofNode[] }> {
    const { fork, block } = await this.#core.proof({ block: { index, nodes } })
    const { value } = block
    if (value === null) throw new ParcelError('UNREACHABLE', `block ${index} is not here`)
    return {
      block: value,
      sealing: this.#keyring.openingKey(index, value),
      fork,
      nodes: block.nodes
    }
  }

  /**
   * Compares a block that is here with the log's signature, taking nothing on trust. `damaged`: it
   * cannot be read, or is not what was signed. `unproved`: what proves it cannot be read. null: it is
   * not here. Whatever else goes wrong, as with files or the store, is thrown.
   */
  async prove(index: number): Promise<Proved | null> {
    for (;;) {
      const { length } = this.#core
      if (!this.#core.core.bitfield.hasSet(index, 1)) return null
      const block = await this.#core.get(index, { wait: false }).catch((error: unknown) => {
        if (isDamage(error)) return 'damaged' as const
        throw error
      })
      if (block === 'damaged') return { state: 'damaged', block: null }
      // It may have been dropped meanwhile.
      if (block === null) {
        if (!this.#core.core.bitfield.hasSet(index, 1)) return null
        return { state: 'damaged', block: null }
      }
      try {
        const upgrade = { start: 0, length }
        const proof = await this.#core.proof({ block: { index, nodes: 0 }, upgrade })
        proof.block.value = block
        await this.#core.verifyFullyRemote(proof)
        return { state: 'proved', block }
      } catch (error) {
        // It grew meanwhile, and the proof is of neither length.
        if (length !== this.#core.length) continue
        if (this.#core.closing !== null) throw error
        const code = error instanceof Error && 'code' in error ? String(error.code) : ''
        const isWrong = ['INVALID_SIGNATURE', 'INVALID_CHECKSUM', 'INVALID_PROOF'].includes(code)
        if (isWrong || isDamage(error)) return { state: 'unproved', block }
        throw error
      }
    }
  }

  /** The key that opens a block; null: this host has none, as a vault. */
  openingKey(index: number, block: Buffer): SealingKey | null {
    try {
      return this.#keyring.openingKey(index, block)
    } catch (error) {
      if (error instanceof ParcelError && error.code === 'BAD_KEY') return null
      throw error
    }
  }

  /** Forgets a block that is damaged, so that it can come again. */
  async forget(index: number): Promise<void> {
    await this.#core.clear(index, index + 1)
    this.#forgotten.add(index)
    for (const listener of this.#dropListeners) listener()
  }

  /** Blocks that were forgotten and have not come again. */
  forgotten(): number[] {
    for (const index of this.#forgotten) if (this.has(index)) this.#forgotten.delete(index)
    return [...this.#forgotten]
  }

  /** How many nodes a proof of a block must have for this host. */
  missingNodes(index: number): Promise<number> {
    return this.#core.missingNodes(index)
  }

  /** Stores a block that did not come by replication, if its proof holds; false when it does not. */
  async insert(index: number, block: Buffer, fork: number, nodes: ProofNode[]): Promise<boolean> {
    const proof = { fork, block: { index, value: block, nodes } }
    const none = { hash: null, seek: null, upgrade: null, manifest: null }
    try {
      if (!(await this.#core.core.verify({ ...proof, ...none }, null))) return false
    } catch {
      return false
    }
    for (const listener of this.#inserted) listener(index, block.byteLength)
    return true
  }

  /** Calls back when the log grew, here or by replication. Returns how to stop. */
  onAppend(listener: () => void): () => void {
    this.#core.on('append', listener)
    return () => this.#core.off('append', listener)
  }

  /** Calls back when a peer has, or pretends to have, another past of this log. Returns how to stop. */
  onConflict(listener: () => void): () => void {
    this.#conflictListeners.add(listener)
    return () => this.#conflictListeners.delete(listener)
  }

  /** Calls back for each block that came, with its size in bytes. Returns how to stop. */
  onDownload(listener: (index: number, bytes: number) => void): () => void {
    this.#core.on('download', listener)
    this.#inserted.add(listener)
    return () => {
      this.#core.off('download', listener)
      this.#inserted.delete(listener)
    }
  }

  /** Calls back for each block that was sent to a host, in hex, or that came from it. Returns how to stop. */
  onTraffic(
    listener: (host: string, moved: { received: number; sent: number }) => void
  ): () => void {
    const nameOf = (peer: Peer | undefined): string => peer?.remotePublicKey.toString('hex') ?? ''
    const onDownload = (_: number, received: number, peer?: Peer): void =>
      listener(nameOf(peer), { received, sent: 0 })
    const onUpload = (_: number, sent: number, peer: Peer): void =>
      listener(nameOf(peer), { received: 0, sent })
    const stop = this.onDownload(onDownload)
    this.#core.on('upload', onUpload)
    return () => {
      stop()
      this.#core.off('upload', onUpload)
    }
  }

  /** Has `when` run what sends a block to a host, in hex, when that may go. Records wait for nothing. */
  limitSending(when: (host: string, send: () => Promise<void>) => Promise<void>): void {
    if (this.#isLimited) return
    this.#isLimited = true
    answerInTurn(this.#core, this.kind === 'data' ? when : null)
  }

  /** Asks a peer only for as much as its limit, by host in hex, lets come, but for what is waited for. */
  limitReceiving(limitOf: (host: string) => RateLimit): void {
    if (this.kind !== 'data' || this.#isReceivingLimited) return
    this.#isReceivingLimited = true
    limitReceiving(this.#core, limitOf)
  }

  /** Whether peers have been asked for something that has not come. */
  get isAwaited(): boolean {
    return this.#core.peers.some(({ inflight }) => inflight > 0)
  }

  /** Shares out among its peers what has to come, and among the hosts nearby what from afar. `self`: key of this host, in hex. */
  shareWithNeighbours(self: string, isNear: (host: string) => boolean): void {
    if (this.kind !== 'data' || this.#isShared) return
    this.#isShared = true
    watchUnderWay(this.#core)
    shareWithNeighbours(this.#core, self, isNear)
  }

  /** Replicates with one peer, over a stream that has been authorised for this parcel. */
  replicate(stream: Duplex): void {
    this.#core.replicate(stream)
  }

  /** Ends replication over a stream, which goes on with what else it carries. */
  stopReplicating(stream: Duplex): void {
    if (!stream.destroyed) this.#detach(Protomux.from(stream))
  }

  #detach(mux: Protomux): void {
    this.#core.core.replicator.detachFrom(mux)
    for (const peer of this.#core.peers.filter(({ protomux }) => protomux === mux)) {
      peer.channel.close()
    }
  }

  /** It may be replicated anew then: hypercore's own end of a core leaves its channels open. */
  #detachAll(): void {
    for (const { protomux } of this.#core.peers.slice()) this.#detach(protomux)
  }

  /** Closes it and takes it off the disk. */
  async purge(): Promise<void> {
    this.#detachAll()
    const core = this.#core
    if (core.length > 0) await core.clear(0, core.length)
    const { storage } = core.core
    await core.close()
    await storage.store.deleteCore(storage.core)
  }

  async close(): Promise<void> {
    await this.#core.close()
  }
}

function merge(ranges: readonly BlockRange[]): BlockRange[] {
  const merged: BlockRange[] = []
  for (const { start, end } of ranges.toSorted((a, b) => a.start - b.start)) {
    if (end <= start) continue
    const last = merged.at(-1)
    if (last !== undefined && start <= last.end) last.end = Math.max(last.end, end)
    else merged.push({ start, end })
  }
  return merged
}

/** What was to be appended to a log of which others have more: nothing was, and it can be done again. */
export class ContinuedElsewhere extends ParcelError {
  constructor() {
    super('FAILED', 'this host goes on in new logs meanwhile: do it again')
  }
}

/** Nobody waits for a block any more. */
class Stopped extends Error {}
