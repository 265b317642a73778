import type { ControlRecord, HeldCore } from '../../format/control-record.js'
import type { Signed } from './control.js'

/** "All of this version is durable here." */
export interface Receipt {
  /** In hex. */
  host: string
  version: Buffer
  cores: readonly HeldCore[]
}

interface HeardReceipt {
  receipt: Signed
  /** Its author, in hex. */
  host: string
  /** The `control` cores in which its author has it, in hex. */
  cores: Set<string>
}

interface Parts {
  /** Of a host, in hex. */
  isMember: (host: string) => boolean
  /**
   * The `control` core that a host, in hex, writes now, in hex, and the sequence of its record that announced it
   * first; null: it has announced none.
   */
  currentOf: (host: string) => { core: string; begun: number } | null
}

/** What hosts have signed that they hold, and what they have said since that they let go. */
export class Receipts {
  readonly #parts: Parts
  /** By version, in hex, then by record. */
  readonly #receipts = new Map<string, Map<string, HeardReceipt>>()
  /** Who has signed for a core, in hex. */
  readonly #signers = new Map<string, Set<string>>()
  /** By version and host, in hex: the last record of the host that says that it is without. */
  readonly #letGo = new Map<string, Map<string, number>>()

  constructor(parts: Parts) {
    this.#parts = parts
  }

  /** `core`: the log in which it stands; null: it was heard of otherwise, which says nothing. */
  add(receipt: Signed, core: Buffer | null): void {
    const { body, author } = receipt.record
    if (core === null || body.type !== 'receipt') return
    const key = body.version.toString('hex')
    const all = this.#receipts.get(key) ?? new Map<string, HeardReceipt>()
    this.#receipts.set(key, all)
    const id = receipt.id.toString('hex')
    const host = author.toString('hex')
    const known = all.get(id) ?? { receipt, host, cores: new Set<string>() }
    all.set(id, known)
    known.cores.add(core.toString('hex'))
    for (const { head } of body.cores) {
      const name = head.key.toString('hex')
      const signers = this.#signers.get(name) ?? new Set()
      this.#signers.set(name, signers.add(host))
    }
  }

  /** Whether a record would count as signed where it stands in its author's logs of now: a receipt is not repeated there. */
  wouldCount({ author, sequence, body }: ControlRecord): boolean {
    if (body.type !== 'receipt') return false
    return sequence >= (this.#parts.currentOf(author.toString('hex'))?.begun ?? 0)
  }

  /** A host, in hex, is without a version, as its record of that sequence says. */
  letGo(version: Buffer, host: string, sequence: number): void {
    const name = version.toString('hex')
    const hosts = this.#letGo.get(name) ?? new Map<string, number>()
    this.#letGo.set(name, hosts)
    hosts.set(host, Math.max(hosts.get(host) ?? 0, sequence))
  }

  /**
   * What members have signed that they hold durably of a version. A host that goes on in new logs has
   * lost something: what it signed before does not count until it has signed it again, also where it stands in
   * the new logs because other records follow it. `by`: of one host alone, in hex.
   */
  of(version: Buffer, by: string | null = null): Receipt[] {
    const { isMember, currentOf } = this.#parts
    const found: Receipt[] = []
    const key = version.toString('hex')
    for (const { receipt, host, cores } of this.#receipts.get(key)?.values() ?? []) {
      if (by !== null && by !== host) continue
      const { body } = receipt.record
      const current = currentOf(host)
      if (body.type !== 'receipt' || !isMember(host)) continue
      if (current === null || !cores.has(current.core)) continue
      if (receipt.record.sequence < current.begun) continue
      if ((this.#letGo.get(key)?.get(host) ?? -1) > receipt.record.sequence) continue
      found.push({ host, version, cores: body.cores })
    }
    return found
  }

  /** By host and core, in hex: up to which length a host has signed that it holds all. */
  lengths(): Map<string, Map<string, number>> {
    const found = new Map<string, Map<string, number>>()
    for (const version of this.versions()) {
      for (const { host, cores } of this.of(version)) {
        const lengths = found.get(host) ?? new Map<string, number>()
        found.set(host, lengths)
        for (const { head, blocks } of cores) {
          const core = head.key.toString('hex')
          if (blocks === null) lengths.set(core, Math.max(lengths.get(core) ?? 0, head.length))
        }
      }
    }
    return found
  }

  /** Whether a host, in hex, has said that it is without a version, and has not signed for it since. */
  isLetGo(version: Buffer, host: string): boolean {
    const isSaid = this.#letGo.get(version.toString('hex'))?.has(host) === true
    return isSaid && this.of(version, host).length === 0
  }

  /** Versions of which somebody holds something, as far as is known. */
  *versions(): Generator<Buffer> {
    for (const version of this.#receipts.keys()) yield Buffer.from(version, 'hex')
  }

  /** Hosts, in hex, that have ever signed for a core, in hex. */
  signersOf(core: string): ReadonlySet<string> {
    return this.#signers.get(core) ?? new Set()
  }

  /** Cores, in hex, that hosts have signed for. */
  cores(): Set<string> {
    const named = new Set<string>()
    for (const version of this.versions()) {
      for (const { cores } of this.of(version)) {
        for (const { head } of cores) named.add(head.key.toString('hex'))
      }
    }
    return named
  }
}
