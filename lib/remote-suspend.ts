import { setTimeout } from 'node:timers/promises'
import { describeVersion, namesOfMembers } from './describe.js'
import { isErrorCode, ParcelError } from './errors.js'
import type { Events } from './events.js'
import type { Question } from './format/recipe.js'
import { MAX_GRACE, type RemoteSuspendState } from './format/remote-suspend.js'
import type { Home } from './home.js'
import type { SuspendResult, VersionInfo } from './info.js'
import { randomBytes } from './keys/identity.js'
import { memberNamed } from './names.js'
import { notifyUser } from './notify.js'
import { mayWrite } from './parcel/control.js'
import type { Parcel } from './parcel/parcel.js'
import type { ParcelList } from './parcel-list.js'
import { Task, type Work } from './progress.js'

/** How often the other host is asked how far it is, ms. */
const POLL = 500
/** Outcomes that are remembered for who asks late. */
const MOST_ENDED = 64

interface Parts {
  home: Home
  parcels: ParcelList
  events: Events
  suspend: (name: string, options: { message: string }) => PromiseLike<SuspendResult>
}

/** A suspend that another host has asked for. */
interface Asked {
  id: string
  /** Who has asked, as it calls itself. */
  by: string
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
  readonly #closed = new AbortController()

  /** @internal */
  constructor(parts: Parts) {
    this.#parts = parts
  }

  close(): void {
    this.#closed.abort()
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
      try {
        const version = await this.#follow(parcel, other, { grace, timeout }, work)
        const id = version.toString('hex')
        events.add({
          ...common,
          version: id,
          type: 'suspended',
          text: `${called} has suspended "${name}"`
        })
        return { version: await this.#arrival(parcel, version, timeout, work) }
      } catch (error) {
        const { message } = ParcelError.from(error)
        events.add({ ...common, type: 'suspend-refused', text: message })
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
    return { host: asked.by, left: Math.max(0, Math.round(asked.begins - performance.now())) }
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
    const known = this.#waiting.get(parcel)
    if (known !== undefined) {
      // Of several who ask all are told of the one.
      if (known.state.state !== 'waiting') return known.state
      return { state: 'waiting', left: Math.max(0, Math.round(known.begins - performance.now())) }
    }
    const by = parcel.hostName(host)
    const role = parcel.control.members.roles.get(host)
    const { events } = this.#parts
    const common = { parcel: parcel.name, host: by, version: null }
    if (role === undefined || !mayWrite(role)) {
      const text = `${by}, a ${role ?? 'stranger'}, asked for a suspend: refused`
      events.add({ ...common, type: 'suspend-refused', text })
      parcel.problem(host, 'asked for a suspend, which it must not: refused')
      return this.#end(id, { state: 'failed', code: 'FORBIDDEN' })
    }
    const request: Asked = {
      id,
      by,
      state: { state: 'waiting', left: grace },
      begins: performance.now() + grace,
      refuse: new AbortController()
    }
    this.#waiting.set(parcel, request)
    const seconds = Math.round(grace / 1_000)
    const text = `${by} asks that "${parcel.name}" is suspended: in ${seconds} s`
    events.add({ ...common, type: 'suspend-asked', text })
    notifyUser(`${text}. 'hyperparcel suspend ${parcel.name} --refuse' keeps it running`)
    void this.#run(parcel, request, grace)
    return request.state
  }

  async #run(parcel: Parcel, asked: Asked, grace: number): Promise<void> {
    const { events, suspend } = this.#parts
    const common = { parcel: parcel.name, host: asked.by }
    const signal = AbortSignal.any([asked.refuse.signal, this.#closed.signal])
    try {
      await setTimeout(grace, undefined, { signal, ref: false })
      asked.state = { state: 'suspending' }
      const { version } = await suspend(parcel.name, { message: `asked for by ${asked.by}` })
      this.#end(asked.id, { state: 'done', version: Buffer.from(version.id, 'hex') })
      const text = `suspended for ${asked.by}`
      events.add({ ...common, type: 'suspended', version: version.id, text })
    } catch (error) {
      const isRefused = signal.aborted
      const { code, message } = ParcelError.from(error)
      this.#end(asked.id, { state: 'failed', code: isRefused ? 'INTERRUPTED' : code })
      const text = isRefused ? `kept running, though ${asked.by} asked for it` : message
      events.add({ ...common, type: 'suspend-refused', version: null, text })
    } finally {
      this.#waiting.delete(parcel)
      await events.save()
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
    let deadline = performance.now() + timeout
    for (;;) {
      work.signal.throwIfAborted()
      const there = parcel.synthesis.answerers().find((each) => each.host === host)
      const answer = (await there?.suspend(question)) ?? null
      if (answer?.state === 'done') return answer.version
      if (answer?.state === 'failed') throw failure(answer.code, called, parcel.name)
      if (answer?.state === 'waiting') {
        const seconds = Math.ceil(answer.left / 1_000)
        deadline = performance.now() + answer.left + timeout
        work.report({
          step: `${called} suspends it in ${seconds} s`,
          done: 0,
          total: 0,
          unit: 'blocks'
        })
      }
      // It may take as long as its machine is large.
      if (answer?.state === 'suspending') {
        deadline = performance.now() + timeout
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

  async #arrival(parcel: Parcel, id: Buffer, timeout: number, work: Work): Promise<VersionInfo> {
    const deadline = performance.now() + timeout
    let known = parcel.history.get(id)
    while (known === null) {
      if (performance.now() > deadline) {
        throw new ParcelError('UNREACHABLE', 'it is suspended, and its version has not arrived yet')
      }
      await setTimeout(25, undefined, { signal: work.signal })
      known = parcel.history.get(id)
    }
    await parcel.availability.fetch(known, { timeout }, work)
    return describeVersion(parcel, known, this.#parts.home)
  }
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
