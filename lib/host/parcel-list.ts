import { isDamage, ParcelError } from '../errors.js'
import { isName } from '../names.js'
import type { Parcel } from '../parcel/parcel.js'

/** The parcels of a host by name, with those that do not open. */
export class ParcelList {
  readonly #open: Parcel[] = []
  readonly #unopened = new Map<string, ParcelError>()
  readonly #problems: string[] = []

  get all(): readonly Parcel[] {
    return this.#open
  }

  /** Parcels that could not be opened, and why. */
  get problems(): readonly string[] {
    return this.#problems
  }

  add(parcel: Parcel): void {
    this.#open.push(parcel)
  }

  remove(parcel: Parcel): void {
    const at = this.#open.indexOf(parcel)
    if (at !== -1) this.#open.splice(at, 1)
  }

  /** What went wrong with a parcel that has no name here. */
  addProblem({ message }: ParcelError): void {
    if (!this.#problems.includes(message)) this.#problems.push(message)
  }

  /** A parcel that does not open: whoever asks for it is told why, and its name stays taken. */
  addUnopened(name: string, error: unknown): void {
    const { code, message: why } = ParcelError.from(error)
    // What does not open nothing can be sent to.
    const isBroken = isDamage(error instanceof ParcelError ? error.cause : error)
    const message = isBroken
      ? "it is damaged on this disk: 'hyperparcel rebuild' fetches all of the store anew"
      : why
    const failure = new ParcelError(code, `"${name}" does not open: ${message}`, error)
    this.#problems.push(failure.message)
    this.#unopened.set(name, failure)
  }

  /** Throws UNKNOWN_PARCEL, or why the parcel does not open. */
  named(name: string): Parcel {
    const parcel = this.#open.find((each) => each.name === name)
    if (parcel !== undefined) return parcel
    const failure = this.#unopened.get(name)
    if (failure !== undefined) throw failure
    throw new ParcelError('UNKNOWN_PARCEL', `no parcel "${name}" here: see 'hyperparcel ls'`)
  }

  withId(id: Buffer): Parcel | undefined {
    return this.#open.find((parcel) => parcel.id.equals(id))
  }

  /** Throws NAME_TAKEN. */
  requireFree(name: string): void {
    if (!this.#open.some((parcel) => parcel.name === name) && !this.#unopened.has(name)) return
    throw new ParcelError(
      'NAME_TAKEN',
      `there is a parcel "${name}" here already: choose another name`
    )
  }

  /** A name from another host is taken only if it could have been given here. */
  freeName(wanted: string): string {
    const name = isName(wanted) ? wanted : 'parcel'
    let free = name
    for (let n = 2; this.#open.some((parcel) => parcel.name === free); n++) free = `${name}-${n}`
    return free
  }
}
