import type { ParcelContext } from './context.js'
import type { Control } from './members/control.js'
import { announcementText, saveState, type LocalState } from './local-state.js'

/** Announcements kept to find logs with; the rest are read again from the logs themselves. */
const MAX_KEPT = 1_024

/** A parcel's local state in memory, and its file. */
export class SavedState {
  /** What changes here is durable once a `save` that began after it settles. */
  readonly value: LocalState
  readonly #context: ParcelContext
  readonly #control: Control
  #saving: Promise<void> = Promise.resolve()

  constructor(value: LocalState, context: ParcelContext, control: Control) {
    this.value = value
    this.#context = context
    this.#control = control
  }

  /** One write at a time, each with the newest state. */
  save(): Promise<void> {
    const { stateDir, identity } = this.#context
    const announcements = this.#control.incarnations().map(({ signed }) => signed)
    this.value.announcements = announcements.slice(-MAX_KEPT).map(announcementText)
    const save = this.#saving.then(() => saveState(stateDir, identity.atRest, this.value))
    this.#saving = save.catch(() => {})
    return save
  }

  /** Waits for what is being written. */
  close(): Promise<void> {
    return this.#saving
  }
}
