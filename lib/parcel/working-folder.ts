import { ParcelError } from '../errors.js'
import type { History, Known } from './history.js'
import type { LocalState } from './local-state.js'
import { isHalfWritten, recoverFolder } from './checkout/materialise.js'
import type { OwnLogs } from './logs/own-logs.js'
import type { SavedState } from './saved-state.js'

/**
 * The folder that a parcel has on this host, as the local state knows it: where it is, which
 * version it continues, and which commit or check-out of it is under way. In this order: `begin`,
 * then the one step that decides (the version's record, the folder's rename), durably, then
 * `settle`. Should we die in between, `recover` finds out at the next start what came of it.
 */
export class WorkingFolder {
  readonly #saved: SavedState
  readonly #own: OwnLogs
  readonly #history: History

  constructor(saved: SavedState, own: OwnLogs, history: History) {
    this.#saved = saved
    this.#own = own
    this.#history = history
  }

  /** What `suspend` stores; null when this host has no folder yet. */
  get path(): string | null {
    return this.#saved.value.path
  }

  /** The version that the folder continues; null before the first. */
  get base(): Buffer | null {
    const { base } = this.#saved.value
    return base === null ? null : Buffer.from(base, 'hex')
  }

  /** Whether its machine was started since the folder's version was made: the folder has gone on. */
  get isStarted(): boolean {
    return this.#saved.value.isStarted
  }

  async setStarted(): Promise<void> {
    this.#saved.value.isStarted = true
    await this.#saved.save()
  }

  /** The version that the folder continues. Throws UNREACHABLE when its record is not here. */
  baseVersion(): Known | null {
    if (this.base === null) return null
    const known = this.#history.get(this.base)
    if (known !== null) return known
    throw new ParcelError(
      'UNREACHABLE',
      `the version that ${this.path ?? 'the folder'} continues is not here: ` +
        'bring another host of this parcel online'
    )
  }

  /** A commit or a check-out comes to the step that decides. `version` in hex. */
  async begin(kind: 'commit' | 'checkout', version: string, path: string): Promise<void> {
    this.#saved.value.pending = { kind, version, path }
    await this.#saved.save()
  }

  /** It came to nothing. */
  async cancel(): Promise<void> {
    this.#saved.value.pending = null
    await this.#saved.save()
  }

  /** A commit or a check-out is done: the folder continues this version. */
  async settle(version: string, path: string): Promise<void> {
    const state = this.#saved.value
    state.base = version
    state.path = path
    state.pending = null
    state.isStarted = false
    await this.#own.saveMarks()
  }

  /** After a start, once the own logs have been read. */
  async recover(): Promise<void> {
    const { pending, path } = this.#saved.value
    if (path !== null) await recoverFolder(path)
    if (pending === null) return
    await recoverFolder(pending.path)
    if (await this.#isDone(pending)) await this.settle(pending.version, pending.path)
    this.#saved.value.pending = null
    await this.#saved.save()
  }

  async #isDone({ kind, version, path }: NonNullable<LocalState['pending']>): Promise<boolean> {
    if (kind === 'commit') return this.#history.get(Buffer.from(version, 'hex')) !== null
    return !(await isHalfWritten(path))
  }
}
