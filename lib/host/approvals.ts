import { randomBytes } from 'node:crypto'
import { ParcelError } from '../errors.js'
import type { Newcomer } from '../info.js'

/** A newcomer waits so long for somebody to look at it, ms. */
const PATIENCE = 120_000

interface Asked {
  /** Settles when somebody has used the invite. */
  newcomer: Promise<Newcomer>
  answer: (isAllowed: boolean) => void
}

/** Invites whose newcomers a person looks at, who sits at another process. */
export class Approvals {
  readonly #asked = new Map<string, Asked>()

  /** What an invite is opened with, and the name by which others ask about it. */
  open(): { id: string; approve: (newcomer: Newcomer) => Promise<boolean> } {
    const id = randomBytes(8).toString('hex')
    let arrive = (_newcomer: Newcomer): void => {}
    let answer = (_isAllowed: boolean): void => {}
    const newcomer = new Promise<Newcomer>((resolve) => (arrive = resolve))
    const answered = new Promise<boolean>((resolve) => (answer = resolve))
    this.#asked.set(id, { newcomer, answer: (isAllowed) => answer(isAllowed) })
    return {
      id,
      approve: async (who) => {
        arrive(who)
        const timer = setTimeout(() => answer(false), PATIENCE)
        try {
          return await answered
        } finally {
          clearTimeout(timer)
          this.#asked.delete(id)
        }
      }
    }
  }

  /** Waits for who uses an invite. Whoever stops waiting lets nobody in. Throws INVITE_EXPIRED, INTERRUPTED. */
  async newcomer(id: string, signal: AbortSignal): Promise<Newcomer> {
    const asked = this.#require(id)
    let onAbort = (): void => {}
    const gone = new Promise<never>((_, reject) => {
      onAbort = () => {
        asked.answer(false)
        reject(new ParcelError('INTERRUPTED', 'nobody was let in'))
      }
      if (signal.aborted) onAbort()
      signal.addEventListener('abort', onAbort, { once: true })
    })
    try {
      return await Promise.race([asked.newcomer, gone])
    } finally {
      signal.removeEventListener('abort', onAbort)
    }
  }

  answer(id: string, isAllowed: boolean): void {
    this.#require(id).answer(isAllowed)
  }

  #require(id: string): Asked {
    const asked = this.#asked.get(id)
    if (asked !== undefined) return asked
    throw new ParcelError('INVITE_EXPIRED', 'this invite is no longer open: make a new one')
  }
}
