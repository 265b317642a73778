import type { CheckpointPolicy, Consistency } from '../choices.js'
import type { LocalState } from './local-state.js'
import type { SavedState } from './saved-state.js'

interface Parts {
  saved: SavedState
  /** Whether one host at a time may run it, as all of them know. */
  hasLease: () => boolean
  onChange: () => void
}

/** What the user of this host has said of a parcel; none of it is known to other hosts. */
export class Settings {
  readonly #parts: Parts

  constructor(parts: Parts) {
    this.#parts = parts
  }

  /** How strict a resume is, and of how many days hosts are waited for. */
  get strictness(): { consistency: Consistency; days: number } {
    const { saved, hasLease } = this.#parts
    const { consistency, days } = saved.value
    return { consistency: hasLease() ? 'lease' : consistency, days }
  }

  setStrictness(how: Partial<{ consistency: Consistency; days: number }>): Promise<void> {
    return this.#set(how)
  }

  /** How many other hosts are to have a version before this one can be without. */
  get copies(): number {
    return this.#parts.saved.value.copies
  }

  setCopies(copies: number): Promise<void> {
    return this.#set({ copies })
  }

  /** When a version of its machine is made by itself while that runs here. */
  get checkpoints(): CheckpointPolicy {
    const { checkpointEvery: every, checkpointIdle: idle } = this.#parts.saved.value
    return { every, idle }
  }

  setCheckpoints({ every, idle }: CheckpointPolicy): Promise<void> {
    return this.#set({ checkpointEvery: every, checkpointIdle: idle })
  }

  /** Durable when it settles. */
  async #set(values: Partial<LocalState>): Promise<void> {
    const { saved, onChange } = this.#parts
    Object.assign(saved.value, values)
    await saved.save()
    onChange()
  }
}
