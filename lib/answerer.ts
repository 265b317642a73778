import type { Question, Recipe } from './format/recipe.js'

/** A connected member that answers questions; null when it has no answer, or is gone. */
export interface Answerer {
  recipes(question: Question & { kind: 'recipes' }): Promise<(Recipe | null)[] | null>
  items(question: Question & { kind: 'items' }): Promise<Buffer | null>
}
