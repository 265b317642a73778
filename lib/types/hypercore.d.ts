declare module 'hypercore' {
  import type { EventEmitter } from 'node:events'
  import type { Duplex } from 'node:stream'
  import type Protomux from 'protomux'

  export interface Manifest {
    version: number
    hash?: 'blake2b'
    quorum?: number
    signers: { signature?: 'ed25519'; publicKey: Buffer; namespace?: Buffer }[]
  }

  export interface Peer {
    remotePublicKey: Buffer
    readonly protomux: Protomux
    readonly channel: { close(): void }
    /** How many blocks it is asked for at a time: at least, at most. */
    inflightRange: [number, number]
    /** It may be asked for so many blocks, in all, that others were asked for already. */
    getMaxHotswapInflight(): number
    /** Requests that it has not answered. */
    readonly inflight: number
    /** It has sent what could not be verified, or not be written, and is asked for nothing any more. */
    paused: boolean
    readonly stats: { notAvailableBackoffs: number }
    /** Answers a request of the other side. */
    onrequest(request: { id: number; block: object | null }): Promise<void>
    /** Those of the other side that are begun with and not answered. */
    readonly remoteRequests: ReadonlyMap<number, object>
    /** Sends a request. */
    readonly wireRequest: { send(request: object): boolean }
    /** The other side does not want what it asked for any more. */
    oncancel(message: { request: number }): void
    /** It is connected no more. */
    readonly removed: boolean
    /** It has got blocks, or is without some. */
    onrange(message: { drop: boolean; start: number; length: number }): Promise<void>
    _remoteHasBlock(index: number): boolean
    /** Asks it for a block of a download; false when it cannot be asked. */
    _requestRangeBlock(index: number, length: number): boolean
    /** Asks it for a block that others may have been asked for; false when it does not have it. */
    _requestBlock(block: BlockRequest): boolean
  }

  export interface BlockRequest {
    readonly inflight: readonly { readonly peer: Peer }[]
  }

  export interface ProofNode {
    index: number
    size: number
    hash: Buffer
  }

  export interface Proof {
    fork: number
    /** The value is null when it is not here. */
    block: { index: number; value: Buffer | null; nodes: ProofNode[] } | null
    hash: null
    seek: null
    upgrade: {
      start: number
      length: number
      nodes: ProofNode[]
      /** What the signature covers beyond `length`. */
      additionalNodes: ProofNode[]
      signature: Buffer
    } | null
    manifest: null
  }

  interface TreeBatch {
    /** As the tree was at an earlier length. */
    restore(length: number): Promise<void>
  }

  export interface Download {
    done(): Promise<boolean>
    destroy(): void
  }

  export default class Hypercore extends EventEmitter {
    constructor(storage: string, key: Buffer)
    readonly key: Buffer
    readonly discoveryKey: Buffer
    readonly length: number
    readonly byteLength: number
    readonly fork: number
    readonly contiguousLength: number
    readonly closing: Promise<void> | null
    readonly peers: readonly Peer[]
    /** From the nodes that are here, of a length that was verified. */
    static treeHashFromStorage(core: Hypercore, length: number): Promise<Buffer>
    static key(manifest: Manifest): Buffer
    static discoveryKey(key: Buffer): Buffer
    ready(): Promise<void>
    append(
      blocks: readonly Buffer[],
      options: { keyPair: { publicKey: Buffer; secretKey: Buffer } }
    ): Promise<{ length: number }>
    get(
      index: number,
      options?: { wait?: boolean; activeRequests?: unknown[] }
    ): Promise<Buffer | null>
    /** Calls off what `get` put into its `activeRequests`; they fail with `error`. */
    clearRequests(activeRequests: unknown[], error: Error): void
    has(start: number, end?: number): Promise<boolean>
    clear(start: number, end: number): Promise<unknown>
    /** `firstUnset` is -1 when all blocks from there on are here. */
    readonly core: {
      readonly storage: {
        readonly core: object
        store: { deleteCore(core: object): Promise<void> }
      }
      readonly state: {
        createWriteBatch(): {
          deleteTreeNode(index: number): void
          deleteTreeNodeRange(start: number, end: number): void
        }
        createTreeBatch(): TreeBatch
        /** Throws when the signature is not of that length and fork. */
        truncate(length: number, fork: number, options: { signature: Buffer }): Promise<void>
      }
      readonly verifier: {
        verify(batch: TreeBatch, signature: Buffer): boolean
        sign(batch: TreeBatch, keyPair: { publicKey: Buffer; secretKey: Buffer }): Buffer
      }
      /** Called with a proof of another state of the core that a peer shows. */
      checkConflict: (proof: Proof) => Promise<boolean>
      readonly bitfield: {
        firstUnset(from: number): number
        firstSet(from: number): number
        hasSet(start: number, length: number): boolean
        countSet(start: number, length: number): number
      }
      readonly replicator: {
        detachFrom(mux: Protomux): void
        readonly _blocks: { get(index: number): BlockRequest | null }
        /** Asks a peer for what is wanted, as far as it is allowed to. */
        updatePeer(peer: Peer): void
        _addUpgradeMaybe(): void
      }
      verify(proof: Proof, from: null): Promise<boolean>
    }
    update(options?: { wait?: boolean }): Promise<boolean>
    treeHash(length?: number): Promise<Buffer>
    missingNodes(index: number): Promise<number>
    proof(of: {
      block: { index: number; nodes: number }
      /** For who has nothing of the log: the signature too. */
      upgrade?: { start: number; length: number }
    }): Promise<Proof & { block: { index: number; value: Buffer | null; nodes: ProofNode[] } }>
    proof(of: { upgrade: { start: number; length: number } }): Promise<Proof>
    /** Throws when a proof, with the block itself, does not lead to the log's signature. */
    verifyFullyRemote(proof: Proof): Promise<unknown>
    download(range: { blocks: readonly number[] }): Download
    replicate(stream: Duplex): Duplex
    close(): Promise<void>
  }
}
