import type { LeaseAnswer, Question, Recipe } from '../format/recipe.js'
import type { RemoteSuspendState } from '../format/remote-suspend.js'
import type { SignedState } from '../format/signed-state.js'
import type { SignedRecord } from '../format/wire.js'
import type { LeaseKeeper } from './members/lease-keeper.js'
import type { LogSet } from './logs/log-set.js'
import { itemsFor, recipesFor } from './fetch/recipes.js'
import type { Space } from './space/space.js'

/** Records in one answer, bytes; one alone may be larger. */
const MOST_RECORDS = 1_048_576

/** What this host answers others, each of which is named in hex, as far as they may know it. */
export class Answers {
  readonly #set: LogSet
  readonly #space: Space
  readonly #leases: LeaseKeeper

  /** How machines are suspended is the host's affair. */
  suspendFor: (question: Question & { kind: 'suspend' }, host: string) => RemoteSuspendState =
    () => ({ state: 'failed', code: 'FORBIDDEN' })

  constructor(set: LogSet, space: Space, leases: LeaseKeeper) {
    this.#set = set
    this.#space = space
    this.#leases = leases
  }

  /** How blocks that are here can be made. */
  async recipes(
    question: Question & { kind: 'recipes' },
    host: string
  ): Promise<(Recipe | null)[]> {
    return this.#mayRead(host) ? recipesFor(question, this.#set) : []
  }

  /** Items of packs that are here. */
  async items(question: Question & { kind: 'items' }, host: string): Promise<Buffer> {
    return this.#mayRead(host) ? itemsFor(question, this.#set) : Buffer.alloc(0)
  }

  /** Control records by their ids. */
  records({ ids }: Question & { kind: 'records' }, host: string): SignedRecord[] {
    const { control } = this.#set
    if (!this.#isMember(host)) return []
    const found: SignedRecord[] = []
    let left = MOST_RECORDS
    for (const id of ids) {
      const record = control.get(id)
      left -= record?.bytes.byteLength ?? 0
      // The rest is asked for again.
      if (left < 0 && found.length > 0) break
      if (record !== null) found.push({ bytes: record.bytes, signature: record.signature })
    }
    return found
  }

  /** Which versions it can rely on here. */
  async held(question: Question & { kind: 'held' }, host: string): Promise<boolean[]> {
    return this.#isMember(host) ? this.#space.held(question) : question.ids.map(() => false)
  }

  /** What is here of its own logs. */
  states({ logs }: Question & { kind: 'states' }, host: string): Promise<(SignedState | null)[]> {
    return Promise.all(
      logs.map(async ({ core, length }) => {
        if (this.#set.writerOf(core) !== host) return null
        return (await this.#set.get(core)?.signedState(length)) ?? null
      })
    )
  }

  /** Suspends the machine here for it, and says how far that is. */
  suspend(question: Question & { kind: 'suspend' }, host: string): RemoteSuspendState {
    return this.suspendFor(question, host)
  }

  /** Whether it gets the lease. */
  lease(question: Question & { kind: 'lease' }, host: string): Promise<LeaseAnswer> {
    return this.#leases.answer(question, host)
  }

  #isMember(host: string): boolean {
    return this.#set.control.members.roles.has(host)
  }

  /** A vault keeps what it cannot read. */
  #mayRead(host: string): boolean {
    const role = this.#set.control.members.roles.get(host)
    return role !== undefined && role !== 'vault'
  }
}
