import type { LeaseAnswer, Question, Recipe } from './format/recipe.js'
import type { RemoteSuspendState } from './format/remote-suspend.js'
import type { SignedState } from './format/signed-state.js'
import type { SignedRecord } from './format/wire.js'

/** A connected member that answers questions; null when it has no answer, or is gone. */
export interface Answerer {
  /** In hex. */
  readonly host: string
  recipes(question: Question & { kind: 'recipes' }): Promise<(Recipe | null)[] | null>
  /** Signed control records, those that it has. */
  records(question: Question & { kind: 'records' }): Promise<SignedRecord[] | null>
  items(question: Question & { kind: 'items' }): Promise<Buffer | null>
  /** Gives it the lease, or a vote for it. */
  lease(question: Question & { kind: 'lease' }): Promise<LeaseAnswer>
  /** What it has of logs that this host writes, of each; null of those that it does not have. */
  states(question: Question & { kind: 'states' }): Promise<(SignedState | null)[] | null>
  /** How far a suspend is that it was asked for; null: it does not say. */
  suspend(question: Question & { kind: 'suspend' }): Promise<RemoteSuspendState | null>
  /** Which of some versions it holds and will not be without before it has asked itself. */
  held(question: Question & { kind: 'held' }): Promise<boolean[] | null>
}
