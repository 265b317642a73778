import type { Answerer } from '../answerer.js'
import type { LeaseAnswer, Question, Recipe } from '../format/recipe.js'
import type { RecoveryAnswer } from '../format/recovery.js'
import type { RemoteSuspendState } from '../format/remote-suspend.js'
import type { SignedState } from '../format/signed-state.js'
import type { SignedRecord } from '../format/wire.js'
import type { Log } from '../log/log.js'

/** A parcel as the network sees it. */
export interface SharedParcel {
  readonly id: Buffer
  replicated(): Log[]
  headIds(): Buffer[]
  knows(version: Buffer): boolean
  /** Whom it meets, where, and what they tell each other first. */
  readonly peers: {
    /** Where its hosts meet on the DHT; they change with the key epoch. */
    topics(): Buffer[]
    /** Where members announce themselves for each other, should one have lost all but its identity. */
    recoveryTopics(): Buffer[]
    /** What brings a host, in hex, back into the parcel; null when it has said nothing. */
    recoveryFor(host: string): RecoveryAnswer | null
    /** Public keys in hex of the hosts that may connect for this parcel. */
    trusted(): Set<string>
    announcements(): SignedRecord[]
    announce(records: readonly SignedRecord[]): Promise<void>
    /** A host, in hex, has said what its newest versions are. */
    heardFrom(host: string): void
  }
  /** What answers questions of a host, in hex. */
  readonly answers: {
    recipes(question: Question & { kind: 'recipes' }, host: string): Promise<(Recipe | null)[]>
    items(question: Question & { kind: 'items' }, host: string): Promise<Buffer>
    records(question: Question & { kind: 'records' }, host: string): SignedRecord[]
    held(question: Question & { kind: 'held' }, host: string): Promise<boolean[]>
    states(question: Question & { kind: 'states' }, host: string): Promise<(SignedState | null)[]>
    suspend(question: Question & { kind: 'suspend' }, host: string): RemoteSuspendState
    lease(question: Question & { kind: 'lease' }, host: string): Promise<LeaseAnswer>
  }
  /** Told whom it can ask itself. */
  readonly synthesis: { answerers: () => readonly Answerer[] }
  /** Notes for `status` what a host did that was refused. */
  problem(host: string, text: string): void
  onChange(listener: () => void): () => void
}
