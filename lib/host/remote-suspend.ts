import { setTimeout } from 'node:timers/promises'
import { describeVersion, namesOfMembers } from './describe.js'
import { isErrorCode, ParcelError } from '../errors.js'
import type { Events } from './events.js'
import type { Question } from '../format/recipe.js'
import { MAX_GRACE, type RemoteSuspendState } from '../format/remote-suspend.js'
import type { Home } from '../home.js'
import type { SuspendResult, VersionInfo } from '../info.js'
import { randomBytes } from '../keys/identity.js'
import { memberNamed } from '../names.js'
import { notifyUser } from './notify.js'
import { mayWrite } from '../parcel/members/control.js'
import type { Known } from '../parcel/history.js'
import type { Parcel } from '../parcel/parcel.js'
import type { ParcelList } from './parcel-list.js'
import { Task, type Work } from '../progress.js'

/** How often the other host is asked how far it is, ms. */
const POLL = 500
/** Outcomes that are remembered for who asks late. */
const MOST_ENDED = 64
/** Who has not asked how far it is for so long has gone, ms. */
const GONE = 5_000
/** No machine takes longer to be suspended, ms. */
const LONGEST = 6 * 3_600_000
/** What is written down as a refusal where it was asked. */
const REFUSALS: ReadonlySet<string> = new Set(['FORBIDDEN', 'RUNNING'])

interface Parts {
  home: Home
  parcels: ParcelList
  events: Events
  suspend: (parcel: Parcel, options: { message: string }) => PromiseLike<SuspendResult>
}

/** A suspend that another host has asked for. */
interface Asked {
  /** All requests that wait for it: of one host each, in hex, and its number. */
  ids: Set<string>
  /** Who asked first, in hex, and as it calls itself. */
  host: string
  by: string
  /** When somebody last asked how far it is, by `performance.now`. */
  heard: number
  state: RemoteSuspendState
  /** By `performance.now`. */
  begins: number
  refuse: AbortController
}

/**
 * Suspends of a machine that another host asks for: one that was left running at home comes to where its user
 * is. Its own user is told, and can refuse for a while.
 */
export class RemoteSuspend {
  readonly #parts: Parts
  readonly #waiting = new Map<Parcel, Asked>()
  readonly #ended = new Map<string, RemoteSuspendState>()
  /** By host, in hex: when a question of its that was refused was written down. */
  readonly #refused = new Map<string, number>()
  readonly #closed = new AbortController()
  #running: Promise<unknown> = Promise.resolve()

  /** @internal */
  constructor(parts: Parts) {
    this.#parts = parts
  }

  async close(): Promise<void> {
    this.#closed.abort()
    await this.#running
  }

  /** Whether a suspend that was asked for is to come, or under way. */
  get isAwaited(): boolean {
    return this.#waiting.size > 0
  }

  /**
   * Has another member suspend its machine, after `grace` ms in which its user can refuse, and waits until the
   * version is here. Throws FORBIDDEN, UNREACHABLE, RUNNING when it was refused there, or what went wrong there.
   */
  ask(
    name: string,
    host: string,
    { grace, timeout }: { grace: number; timeout: number }
  ): Task<{ version: VersionInfo }> {
    return new Task(async (work) => {
      if (!Number.isInteger(grace) || grace < 0 || grace > MAX_GRACE) {
        throw new ParcelError('USAGE', `a grace of at most ${MAX_GRACE / 60_000} minutes`)
      }
      const { parcels, events, home } = this.#parts
      const parcel = parcels.named(name)
      const other = memberNamed(namesOfMembers(parcel), host)
      if (other === home.identity.publicKey.toString('hex')) {
        throw new ParcelError('USAGE', `this is ${host}: 'hyperparcel suspend ${name}'`)
      }
      const called = parcel.hostName(other)
      const common = { parcel: name, host: called, version: null }
      const text = `asked ${called} to suspend "${name}"`
      events.add({ ...common, type: 'suspend-asked', text })
      const before = new Set([...parcel.history.all()].map(({ id }) => id.toString('hex')))
      try {
        const id = await this.#follow(parcel, other, { grace, timeout }, work)
        if (before.has(id.toString('hex'))) throw liar(called)
        const known = await this.#arrival(parcel, id, { author: other, timeout }, work)
        const done = `${called} has suspended "${name}"`
        events.add({ ...common, version: id.toString('hex'), type: 'suspended', text: done })
        return { version: await describeVersion(parcel, known, home) }
      } catch (error) {
        const { code, message } = ParcelError.from(error)
        if (REFUSALS.has(code)) events.add({ ...common, type: 'suspend-refused', text: message })
        throw error
      } finally {
        await events.save()
      }
    })
  }

  /** Its user refuses what another host has asked for. Throws USAGE when nobody has, or it has begun. */
  refuse(name: string): { host: string } {
    const parcel = this.#parts.parcels.named(name)
    const asked = this.#waiting.get(parcel)
    if (asked?.state.state !== 'waiting') {
      throw new ParcelError('USAGE', `nobody waits for "${name}" to be suspended here`)
    }
    asked.refuse.abort()
    return { host: asked.by }
  }

  /**
   * Who has asked that a parcel is suspended here, and in how many ms it will be; null: nobody.
   * @internal
   */
  pending(parcel: Parcel): { host: string; left: number } | null {
    const asked = this.#waiting.get(parcel)
    if (asked === undefined) return null
    return { host: asked.by, left: leftOf(asked) }
  }

  /**
   * Answers a member, in hex.
   * @internal
   */
  answer(
    parcel: Parcel,
    { id: asked, grace }: Question & { kind: 'suspend' },
    host: string
  ): RemoteSuspendState {
    const id = `${host} ${asked.toString('hex')}`
    const ended = this.#ended.get(id)
    if (ended !== undefined) return ended
    const by = parcel.hostName(host)
    const role = parcel.control.members.roles.get(host)
    const { events } = this.#parts
    const common = { parcel: parcel.name, host: by, version: null }
    if (role === undefined || !mayWrite(role)) {
      this.#noteRefused(parcel, host, role ?? 'stranger')
      return { state: 'failed', code: 'FORBIDDEN' }
    }
    const known = this.#waiting.get(parcel)
    if (known !== undefined) {
      // Of several who ask all get the outcome of the one.
      if (known.ids.size < MOST_ENDED) known.ids.add(id)
      known.heard = performance.now()
      if (known.state.state !== 'waiting') return known.state
      return { state: 'waiting', left: leftOf(known) }
    }
    const now = performance.now()
    const request: Asked = {
      ids: new Set([id]),
      host,
      by,
      heard: now,
      state: { state: 'waiting', left: grace },
      begins: now + grace,
      refuse: new AbortController()
    }
    this.#waiting.set(parcel, request)
    const seconds = Math.round(grace / 1_000)
    const text = `${by} asks that "${parcel.name}" is suspended: in ${seconds} s`
    events.add({ ...common, type: 'suspend-asked', text })
    notifyUser(`${text}. 'hyperparcel suspend ${parcel.name} --refuse' keeps it running`)
    const run = this.#run(parcel, request)
    this.#running = Promise.all([this.#running, run])
    return request.state
  }

  /** Once a minute for each host: nobody is to fill what is kept of what happened. */
  #noteRefused(parcel: Parcel, host: string, what: string): void {
    const now = performance.now()
    if (now - (this.#refused.get(host) ?? -Infinity) < 60_000) return
    this.#refused.set(host, now)
    const by = parcel.hostName(host)
    const text = `${by}, a ${what}, asked for a suspend: refused`
    const common = { parcel: parcel.name, host: by, version: null }
    this.#parts.events.add({ ...common, type: 'suspend-refused', text })
    parcel.problem(host, 'asked for a suspend, which it must not: refused')
  }

  async #run(parcel: Parcel, asked: Asked): Promise<void> {
    const { events, suspend } = this.#parts
    const common = { parcel: parcel.name, host: asked.by, version: null }
    const signal = AbortSignal.any([asked.refuse.signal, this.#closed.signal])
    const end = (state: RemoteSuspendState): void => {
      for (const id of asked.ids) this.#end(id, state)
    }
    try {
      await setTimeout(leftOf(asked), undefined, { signal })
      this.#requireWanted(parcel, asked)
      asked.state = { state: 'suspending' }
      const { version } = await suspend(parcel, { message: `asked for by ${asked.by}` })
      end({ state: 'done', version: Buffer.from(version.id, 'hex') })
      const text = `suspended for ${asked.by}`
      events.add({ ...common, type: 'suspended', version: version.id, text })
    } catch (error) {
      // Nobody has decided anything: who asks again begins anew.
      if (this.#closed.signal.aborted && asked.state.state === 'waiting') return
      const isRefused = asked.refuse.signal.aborted
      const { code, message } = ParcelError.from(error)
      end({ state: 'failed', code: isRefused ? 'INTERRUPTED' : code })
      const text = isRefused ? `kept running, though ${asked.by} asked for it` : message
      events.add({ ...common, type: 'suspend-refused', text })
    } finally {
      this.#waiting.delete(parcel)
      await events.save()
    }
  }

  /** Whether it is still to be done when the grace is over. */
  #requireWanted(parcel: Parcel, { host, by, heard }: Asked): void {
    if (this.#parts.parcels.withId(parcel.id) !== parcel) {
      throw new ParcelError('UNKNOWN_PARCEL', `"${parcel.name}" was removed here`)
    }
    const role = parcel.control.members.roles.get(host)
    if (role === undefined || !mayWrite(role)) {
      throw new ParcelError('FORBIDDEN', `${by} may not ask for that any more`)
    }
    if (performance.now() - heard > GONE) {
      throw new ParcelError('UNREACHABLE', `${by} has gone meanwhile: it is kept running`)
    }
  }

  #end(id: string, state: RemoteSuspendState): RemoteSuspendState {
    this.#ended.set(id, state)
    const [oldest] = this.#ended.keys()
    if (this.#ended.size > MOST_ENDED && oldest !== undefined) this.#ended.delete(oldest)
    return state
  }

  /** Asks until it is done; the version's id. */
  async #follow(
    parcel: Parcel,
    host: string,
    { grace, timeout }: { grace: number; timeout: number },
    work: Work
  ): Promise<Buffer> {
    const called = parcel.hostName(host)
    const question = { kind: 'suspend', id: randomBytes(16), grace } as const
    // Whatever is said there: no longer than what was asked for, but for the suspend itself.
    const began = performance.now()
    let deadline = began + timeout
    for (;;) {
      work.signal.throwIfAborted()
      const there = parcel.synthesis.answerers().find((each) => each.host === host)
      const answer = (await there?.suspend(question)) ?? null
      if (answer?.state === 'done') return answer.version
      if (answer?.state === 'failed') throw failure(answer.code, called, parcel.name)
      if (answer?.state === 'waiting') {
        const seconds = Math.ceil(answer.left / 1_000)
        const step = `${called} suspends it in ${seconds} s`
        // Another host may have asked before, with more patience.
        const most = began + Math.max(grace, Math.min(answer.left, MAX_GRACE)) + timeout
        if (deadline < most && deadline === began + timeout) deadline = most
        work.report({ step, done: 0, total: 0, unit: 'blocks' })
      }
      if (answer?.state === 'suspending') {
        deadline = Math.max(deadline, Math.min(performance.now() + timeout, began + LONGEST))
        work.report({ step: `${called} suspends it`, done: 0, total: 0, unit: 'blocks' })
      }
      if (performance.now() > deadline) {
        throw new ParcelError(
          'UNREACHABLE',
          `${called} does not answer: whether it has suspended "${parcel.name}" 'hyperparcel log' will show`
        )
      }
      await setTimeout(POLL, undefined, { signal: work.signal })
    }
  }

  /** The version, when all of it is here. Throws INTEGRITY for one of another host, UNREACHABLE. */
  async #arrival(
    parcel: Parcel,
    id: Buffer,
    { author, timeout }: { author: string; timeout: number },
    work: Work
  ): Promise<Known> {
    const deadline = performance.now() + timeout
    let known = parcel.history.get(id)
    while (known === null) {
      if (performance.now() > deadline) {
        const called = parcel.hostName(author)
        throw new ParcelError(
          'UNREACHABLE',
          `${called} says that it is suspended, and no such version has come yet`
        )
      }
      await setTimeout(25, undefined, { signal: work.signal })
      known = parcel.history.get(id)
    }
    if (known.version.author.toString('hex') !== author) throw liar(parcel.hostName(author))
    await parcel.availability.fetch(known, { timeout }, work)
    return known
  }
}

function leftOf({ begins }: Asked): number {
  return Math.max(0, Math.round(begins - performance.now()))
}

function liar(host: string): ParcelError {
  return new ParcelError(
    'INTEGRITY',
    `${host} says that it has suspended it, and names a version that it has not made for that`
  )
}

function failure(code: string, host: string, name: string): ParcelError {
  if (code === 'FORBIDDEN') {
    return new ParcelError(
      'FORBIDDEN',
      `${host} refuses: only an owner or a runner of "${name}" can ask for that`
    )
  }
  if (code === 'INTERRUPTED') {
    return new ParcelError('RUNNING', `somebody at ${host} keeps "${name}" running`)
  }
  const known = isErrorCode(code) ? code : 'FAILED'
  return new ParcelError(known, `${host} could not suspend "${name}" (${known})`)
}
