import { setTimeout as delay } from 'node:timers/promises'
import Hyperswarm, { type Connection, type Discovery } from 'hyperswarm'
import { ParcelError } from '../errors.js'
import {
  CODE_WORDS,
  codeText,
  linkText,
  parseInvite,
  type InviteCode,
  type InviteLink,
  type JoinReply,
  type JoinRequest
} from '../format/pairing.js'
import { keyedHash } from '../keys/hash.js'
import { keyPairFrom, randomBytes, verifySignature, type Identity } from '../keys/identity.js'
import { NS } from '../keys/namespaces.js'
import { randomWords } from '../keys/words.js'
import { createNode, leave, type Node } from './dht.js'
import { ask, KIND, OUTCOME, respond, type Outcome } from './pairing-talk.js'

/** An invite that was used still answers the same newcomer this long: its reply may have been lost. */
const AFTERGLOW = 60_000
/** How long `invite` waits for the DHT to know of it. */
const ANNOUNCE_LIMIT = 2_000
/** Wrong words end an invite. */
const GUESSES = 3
/** A talk takes no longer, but for the time in which a person looks at who it is, ms. */
const TALK = 20_000
/** Strangers that are talked to at once. */
const MOST_TALKS = 64
/** So often a newcomer shows that it knows the words: each is a guess for who it talks to. */
const PROOFS = 6
/** So long the inviter's user may take, ms. */
const LOOKING = 120_000
const NUMBERS = 1_000_000
/** So long others with the same number are looked for when one had other words, ms. */
const OTHERS = 2_000

/** Who wants to be let in. */
export interface Newcomer {
  host: Buffer
  name: string
}

export interface InviteOptions {
  /** How long it is good, ms. */
  ttl: number
  /** Of its code; default a random one. */
  number?: number
  /** Whether a newcomer who knows the secret is let in. */
  approve: (newcomer: Newcomer) => Promise<boolean>
  /** Makes the newcomer a member and says what it needs to know, for each parcel. */
  admit: (newcomer: Newcomer) => Promise<JoinReply[]>
}

interface OpenInvite {
  link: InviteLink
  code: InviteCode
  options: InviteOptions
  discoveries: Discovery[]
  timer: NodeJS.Timeout
  wrong: number
  /** Who used it; nobody else may. */
  usedBy: Buffer | null
  /** Whether that one is let in: asked once, however often it comes. */
  decision: Promise<boolean> | null
}

/**
 * Letting new hosts in. They are strangers, so it all happens on a swarm of its own, with a key
 * that lives only as long as an invite does; the trusted swarm never talks to them. Where the two
 * meet follows from the number of the code, or from the link; that they are meant for each other
 * they prove by CPace, over the words or the link's secret.
 */
export class Pairing {
  readonly #identity: Identity
  readonly #bootstrap: Node[] | null
  readonly #clock: () => number
  #swarm: Hyperswarm | null = null
  readonly #invites = new Map<string, OpenInvite>()
  readonly #joining = new Set<Hyperswarm>()
  #talks = 0
  /** Wrong words and links, since the start. */
  wrong = 0

  constructor(identity: Identity, bootstrap: Node[] | null, clock: () => number) {
    this.#identity = identity
    this.#bootstrap = bootstrap
    this.#clock = clock
  }

  /** Invites that can still be used. */
  get open(): number {
    return [...this.#invites.values()].filter(({ usedBy }) => usedBy === null).length
  }

  /** Opens an invite for one host. */
  async invite(options: InviteOptions): Promise<{ link: string; code: string; expires: number }> {
    const expires = Math.ceil((this.#clock() + options.ttl) / 1_000) * 1_000
    const link = { id: randomBytes(16), secret: randomBytes(16), expires }
    const { number = 1 + (randomBytes(4).readUInt32LE(0) % (NUMBERS - 1)) } = options
    const code = { number, words: randomWords(CODE_WORDS) }
    const name = link.id.toString('hex')
    const swarm = this.#start()
    const discoveries = [topicOf(link), topicOf(code)].map((topic) =>
      swarm.join(topic, { server: true, client: false })
    )
    const timer = setTimeout(() => void this.#end(name), options.ttl + AFTERGLOW)
    this.#invites.set(name, {
      link,
      code,
      options,
      discoveries,
      timer,
      wrong: 0,
      usedBy: null,
      decision: null
    })
    // Announced or not by now, it goes on in the background.
    const announced = Promise.all(discoveries.map((each) => each.flushed()))
    await Promise.race([announced, delay(ANNOUNCE_LIMIT)])
    return { link: linkText(link), code: codeText(code), expires }
  }

  /**
   * Uses an invite: a link or a code. Throws BAD_INVITE, INVITE_EXPIRED, INVITE_USED, BAD_KEY (not
   * let in), UNREACHABLE, INTERRUPTED.
   */
  async join(
    text: string,
    hostName: string,
    { timeout, signal }: { timeout: number; signal: AbortSignal }
  ): Promise<JoinReply[]> {
    const invite = parseInvite(text)
    if ('expires' in invite && this.#clock() >= invite.expires) throw expired()
    signal.throwIfAborted()
    const requestFor = (session: Buffer): JoinRequest => ({
      host: this.#identity.publicKey,
      name: hostName,
      signature: this.#identity.sign(NS.joinSignature, session)
    })
    const swarm = this.#newSwarm()
    this.#joining.add(swarm)
    let timer: NodeJS.Timeout | undefined
    let patience: NodeJS.Timeout | undefined
    /** Keys that know other words. */
    const others = new Set<string>()
    /** How often it has shown that it knows the secret, and how often it waits for what comes of that. */
    let proofs = 0
    let waiting = 0
    try {
      return await new Promise<JoinReply[]>((resolve, reject) => {
        const giveUp = (): void => reject(others.size > 0 ? wrongWords() : noAnswer())
        const onTime = (): void => {
          // Somebody over there looks at who we are.
          if (waiting > 0) timer = setTimeout(giveUp, LOOKING)
          else giveUp()
        }
        timer = setTimeout(onTime, timeout)
        const onAbort = (): void => reject(interrupted())
        signal.addEventListener('abort', onAbort, { once: true })
        swarm.on('connection', (connection) => {
          connection.on('error', () => {})
          const peer = connection.remotePublicKey.toString('hex')
          // Each talk is a guess, for either side: who hangs up when it has our proof had one, too.
          if (others.has(peer) || proofs >= PROOFS) {
            connection.destroy()
            return
          }
          let hasProved = false
          const onProof = (): void => {
            hasProved = true
            proofs++
            waiting++
          }
          ask(connection, secretOf(invite), requestFor, onProof).then(
            (answer) => {
              if (hasProved) waiting--
              if (answer?.outcome === OUTCOME.wrong) {
                others.add(peer)
                // Somebody else may have the same number: the one that is meant is found, too.
                patience ??= setTimeout(() => waiting === 0 && reject(wrongWords()), OTHERS)
              } else if (answer?.outcome === OUTCOME.ok) resolve(answer.replies)
              else if (answer) reject(refusal(answer.outcome))
              if (proofs >= PROOFS && waiting === 0) reject(wrongWords())
              connection.destroy()
            },
            () => connection.destroy()
          )
        })
        swarm.join(topicOf(invite), { server: false, client: true })
      })
    } finally {
      clearTimeout(timer)
      clearTimeout(patience)
      this.#joining.delete(swarm)
      await leave(swarm)
    }
  }

  async close(): Promise<void> {
    for (const name of this.#invites.keys()) await this.#end(name, 0)
    await Promise.all([...this.#joining].map((swarm) => leave(swarm)))
    const swarm = this.#swarm
    this.#swarm = null
    if (swarm !== null) await leave(swarm)
  }

  #start(): Hyperswarm {
    if (this.#swarm !== null) return this.#swarm
    const swarm = this.#newSwarm()
    swarm.on('connection', (connection) => {
      connection.on('error', () => {})
      void this.#respond(connection)
    })
    this.#swarm = swarm
    return swarm
  }

  #newSwarm(): Hyperswarm {
    const dht = createNode(this.#bootstrap)
    return new Hyperswarm({ keyPair: keyPairFrom(randomBytes(32)), dht, backoffs: BACKOFFS })
  }

  async #respond(connection: Connection): Promise<void> {
    if (this.#talks >= MOST_TALKS) {
      connection.destroy()
      return
    }
    this.#talks++
    const timer = setTimeout(() => connection.destroy(), TALK)
    let meant: OpenInvite | null = null
    try {
      await respond(
        connection,
        (kind, id) => {
          meant = this.#meant(kind, id)
          if (meant === null) return null
          return kind === KIND.words ? wordsSecret(meant.code) : meant.link.secret
        },
        {
          // Others may have used up its guesses since this one said hello.
          isOpen: () => meant !== null && this.#isOpen(meant),
          onWrong: () => meant !== null && this.#onWrong(meant),
          answer: async (request, session) => {
            clearTimeout(timer)
            return meant === null || !this.#isOpen(meant)
              ? NOT
              : this.#answer(meant, request, session)
          }
        }
      )
    } catch {
      // What cannot be read ends the talk.
    } finally {
      clearTimeout(timer)
      this.#talks--
      connection.destroy()
    }
  }

  /** The invite that a newcomer means: by a hash of where it looked. */
  #meant(kind: number, topic: Buffer): OpenInvite | null {
    for (const open of this.#invites.values()) {
      const of = kind === KIND.words ? open.code : open.link
      if (kind !== KIND.words && kind !== KIND.link) return null
      if (topicOf(of).equals(topic)) return open
    }
    return null
  }

  #isOpen(open: OpenInvite): boolean {
    return this.#invites.get(open.link.id.toString('hex')) === open && open.wrong < GUESSES
  }

  #onWrong(open: OpenInvite): void {
    this.wrong++
    open.wrong++
    if (open.wrong >= GUESSES) void this.#end(open.link.id.toString('hex'))
  }

  async #answer(
    open: OpenInvite,
    { host, name, signature }: JoinRequest,
    session: Buffer
  ): Promise<{ outcome: Outcome; replies: JoinReply[] }> {
    const { options, link } = open
    if (!verifySignature(NS.joinSignature, session, signature, host)) return NOT
    if (this.#clock() >= link.expires) return { outcome: OUTCOME.expired, replies: [] }
    if (open.usedBy !== null && !open.usedBy.equals(host)) {
      return { outcome: OUTCOME.used, replies: [] }
    }
    const id = link.id.toString('hex')
    if (open.decision === null) {
      open.usedBy = host
      // A person may look at it for longer than the invite is good.
      clearTimeout(open.timer)
      open.decision = options.approve({ host, name }).catch(() => false)
    }
    const isLetIn = (await open.decision) && this.#invites.get(id) === open
    if (!isLetIn) {
      void this.#end(id)
      return NOT
    }
    const replies = await options.admit({ host, name }).catch(() => null)
    if (replies === null) {
      // What it was an invite to is gone.
      void this.#end(id)
      return NOT
    }
    this.#expireIn(id, AFTERGLOW)
    return { outcome: OUTCOME.ok, replies }
  }

  #expireIn(name: string, ms: number): void {
    const open = this.#invites.get(name)
    if (open === undefined) return
    clearTimeout(open.timer)
    open.timer = setTimeout(() => void this.#end(name), ms)
  }

  async #end(name: string, linger = LINGER): Promise<void> {
    const open = this.#invites.get(name)
    if (open === undefined) return
    this.#invites.delete(name)
    clearTimeout(open.timer)
    const ended = open.discoveries.map((discovery) => discovery.destroy().catch(() => {}))
    if (this.#invites.size > 0 || this.#swarm === null) {
      await Promise.all(ended)
      return
    }
    const swarm = this.#swarm
    this.#swarm = null
    // A talk that has just ended is read first.
    if (linger > 0) await delay(linger)
    await leave(swarm)
  }
}

const BACKOFFS = [300, 1_000, 3_000]
const LINGER = 500
const NOT = { outcome: OUTCOME.refused, replies: [] } satisfies {
  outcome: Outcome
  replies: JoinReply[]
}

/** Where two meet: nothing of the words is in it. */
function topicOf(invite: InviteLink | InviteCode): Buffer {
  return 'id' in invite
    ? keyedHash(NS.pairingLink, invite.id)
    : keyedHash(NS.pairingNumber, Buffer.from(String(invite.number)))
}

function secretOf(invite: InviteLink | InviteCode): {
  kind: number
  topic: Buffer
  secret: Buffer
} {
  const topic = topicOf(invite)
  return 'id' in invite
    ? { kind: KIND.link, topic, secret: invite.secret }
    : { kind: KIND.words, topic, secret: wordsSecret(invite) }
}

function wordsSecret({ words }: InviteCode): Buffer {
  return Buffer.from(words.join(' '))
}

function refusal(outcome: Outcome): ParcelError {
  if (outcome === OUTCOME.used) {
    return new ParcelError('INVITE_USED', 'this invite was used by another host: ask for a new one')
  }
  if (outcome === OUTCOME.expired) return expired()
  return new ParcelError('BAD_KEY', 'the inviting host refused: ask for a new invite')
}

function wrongWords(): ParcelError {
  return new ParcelError(
    'BAD_KEY',
    'the words are not those of the invite: it is good for three guesses in all'
  )
}

function interrupted(): ParcelError {
  return new ParcelError('INTERRUPTED', 'join was interrupted: use the invite again')
}

function expired(): ParcelError {
  return new ParcelError('INVITE_EXPIRED', 'this invite has expired: ask for a new one')
}

function noAnswer(): ParcelError {
  return new ParcelError(
    'UNREACHABLE',
    'the inviting host does not answer: is it online, with hyperparcel running, and the invite unused?'
  )
}
