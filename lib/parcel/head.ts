import { ParcelError } from '../errors.js'
import { branchName, type History, type Known } from './history.js'
import type { WorkingFolder } from './working-folder.js'

/** A parcel, as far as it says which of its versions is meant. */
interface Parts {
  name: string
  history: History
  folder: WorkingFolder
}

/**
 * The version that is meant when none is said: the only head, or that of the branch which the
 * folder here is on. Throws CONFLICT, UNKNOWN_VERSION when there is none.
 */
export function requireHead({ name, history, folder }: Parts): Known {
  const heads = history.heads()
  const { base: of } = folder
  const base = of === null ? null : history.get(history.continued(of))
  const own = base === null ? [] : (history.branches().get(branchName(base.version)) ?? [])
  const [head, ...others] = own.length === 1 ? own : heads
  if (head === undefined) {
    throw new ParcelError('UNKNOWN_VERSION', `"${name}" has no version yet: suspend it first`)
  }
  if (others.length === 0 && !history.isLapsed(head)) return head
  const ids = heads.map(({ id }) => id.toString('hex', 0, 6)).join(', ')
  if (heads.some((each) => history.isLapsed(each))) {
    throw new ParcelError(
      'CONFLICT',
      `a version was made without the lease: choose ${oneOf(ids)}, or settle it ` +
        `with 'hyperparcel resolve ${name}'`
    )
  }
  if (history.isInConflict) {
    throw new ParcelError(
      'CONFLICT',
      `"${name}" has ${heads.length} heads: choose ${oneOf(ids)}, or settle it ` +
        `with 'hyperparcel resolve ${name}'`
    )
  }
  const names = heads
    .map(({ id, version }) => branchName(version) || id.toString('hex', 0, 6))
    .join(', ')
  throw new ParcelError('CONFLICT', `"${name}" has branches: choose ${oneOf(names)}`)
}

/** How a version is chosen, whatever the verb. */
function oneOf(names: string): string {
  return `one of ${names} ('hyperparcel resume' takes it as --version)`
}
