import type { Answerer } from '../answerer.js'
import {
  decodeAnswer,
  decodeHeld,
  decodeLeaseAnswer,
  decodeQuestion,
  decodeRecipes,
  encodeHeld,
  encodeItems,
  encodeLeaseAnswer,
  encodeQuestion,
  encodeRecipes,
  type LeaseAnswer,
  type Question,
  type Recipe
} from '../format/recipe.js'
import {
  decodeRemoteSuspend,
  encodeRemoteSuspend,
  type RemoteSuspendState
} from '../format/remote-suspend.js'
import { decodeStates, encodeStates, type SignedState } from '../format/signed-state.js'
import { decodeAnnouncements, encodeAnnouncements, type SignedRecord } from '../format/wire.js'
import type { SharedParcel } from './shared-parcel.js'

/** Questions of a peer that wait to be answered; a peer that asks more is refused. */
const MOST_WAITING = 256
/** Until an answer is no longer waited for, ms. */
const PATIENCE = 15_000

/** Questions and answers about blocks, both ways, over the messages of one channel. */
export class Questions implements Answerer {
  readonly #parcel: SharedParcel
  readonly host: string
  readonly #ask: (bytes: Buffer) => void
  /** false: what comes next must wait for `onDrain`. */
  readonly #answer: (bytes: Buffer) => boolean
  readonly #asked = new Map<number, (body: Buffer | null) => void>()
  #next = 1
  #waiting = 0
  #answering: Promise<void> = Promise.resolve()
  #drained: () => void = () => {}
  #isClosed = false
  /** It has left a question without an answer: until one comes after all it is asked no more. */
  isSilent = false

  constructor(
    parcel: SharedParcel,
    host: string,
    send: { ask: (bytes: Buffer) => void; answer: (bytes: Buffer) => boolean }
  ) {
    this.#parcel = parcel
    this.host = host
    this.#ask = send.ask
    this.#answer = send.answer
  }

  async recipes(question: Question & { kind: 'recipes' }): Promise<(Recipe | null)[] | null> {
    const body = await this.#put(question)
    return body === null ? null : decodeRecipes(body)
  }

  async records(question: Question & { kind: 'records' }): Promise<SignedRecord[] | null> {
    const body = await this.#put(question)
    return body === null ? null : decodeAnnouncements(body)
  }

  items(question: Question & { kind: 'items' }): Promise<Buffer | null> {
    return this.#put(question)
  }

  async lease(question: Question & { kind: 'lease' }): Promise<LeaseAnswer> {
    const body = await this.#put(question)
    return body === null ? 'refused' : decodeLeaseAnswer(body)
  }

  async held(question: Question & { kind: 'held' }): Promise<boolean[] | null> {
    const body = await this.#put(question)
    return body === null ? null : decodeHeld(body)
  }

  async states(question: Question & { kind: 'states' }): Promise<(SignedState | null)[] | null> {
    const body = await this.#put(question)
    return body === null ? null : decodeStates(body)
  }

  async suspend(question: Question & { kind: 'suspend' }): Promise<RemoteSuspendState | null> {
    const body = await this.#put(question)
    return body === null || body.byteLength === 0 ? null : decodeRemoteSuspend(body)
  }

  /** Throws INTEGRITY for what is no question. */
  onQuestion(bytes: Buffer): void {
    const { number, question } = decodeQuestion(bytes)
    if (this.#waiting >= MOST_WAITING) return
    this.#waiting++
    // One after the other: what is read for a peer stays bounded.
    this.#answering = this.#answering.then(async () => {
      // What cannot be answered is not; the peer fetches the block as it is.
      const answer = await this.#answerTo(number, question).catch(() =>
        encodeItems(number, Buffer.alloc(0))
      )
      const drained = new Promise<void>((resolve) => (this.#drained = resolve))
      // A peer that asks and does not read is answered no further.
      if (!this.#isClosed && !this.#answer(answer)) await drained
      this.#waiting--
    })
  }

  /** Throws INTEGRITY for what is no answer. */
  onAnswer(bytes: Buffer): void {
    const { number, body } = decodeAnswer(bytes)
    this.isSilent = false
    this.#asked.get(number)?.(Buffer.from(body))
  }

  onDrain(): void {
    this.#drained()
  }

  /** Whoever waits gets no answer. */
  close(): void {
    this.#isClosed = true
    this.#drained()
    for (const settle of this.#asked.values()) settle(null)
  }

  async #answerTo(number: number, question: Question): Promise<Buffer> {
    if (question.kind === 'items')
      return encodeItems(number, await this.#parcel.answers.items(question, this.host))
    if (question.kind === 'lease') {
      const answer = await this.#parcel.answers.lease(question, this.host)
      return encodeItems(number, encodeLeaseAnswer(answer))
    }
    if (question.kind === 'suspend') {
      const state = this.#parcel.answers.suspend(question, this.host)
      return encodeItems(number, encodeRemoteSuspend(state))
    }
    if (question.kind === 'states')
      return encodeItems(
        number,
        encodeStates(await this.#parcel.answers.states(question, this.host))
      )
    if (question.kind === 'held')
      return encodeItems(number, encodeHeld(await this.#parcel.answers.held(question, this.host)))
    if (question.kind === 'records') {
      const records = this.#parcel.answers.records(question, this.host)
      return encodeItems(number, encodeAnnouncements(records))
    }
    return encodeRecipes(number, await this.#parcel.answers.recipes(question, this.host))
  }

  #put(question: Question): Promise<Buffer | null> {
    if (this.#isClosed) return Promise.resolve(null)
    const number = this.#next++
    return new Promise((resolve) => {
      const settle = (body: Buffer | null): void => {
        clearTimeout(timer)
        this.#asked.delete(number)
        resolve(body)
      }
      const timer = setTimeout(() => {
        this.isSilent = true
        settle(null)
      }, PATIENCE)
      this.#asked.set(number, settle)
      this.#ask(encodeQuestion(number, question))
    })
  }
}
