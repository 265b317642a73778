import { ParcelError } from '../../errors.js'
import { printable } from '../../format/file-table.js'
import { decodeFacts, type SaidFacts } from '../../format/meta-record.js'
import { verifySignature } from '../../keys/identity.js'
import { NS } from '../../keys/namespaces.js'

/** What a host says of itself, and what it said before that. */
export interface Said extends SaidFacts {
  /** Facts that were different before: what they were; '' for one that was not there. */
  was: Readonly<Record<string, string>>
}

/** What hosts say of themselves, each in its own log and signed by its identity. */
export class SaidByHosts {
  readonly #parcel: Buffer
  /** By host, in hex. */
  readonly #said = new Map<string, Said>()

  constructor(parcel: Buffer) {
    this.#parcel = parcel
  }

  /** null: nothing yet. */
  of(host: string): Said | null {
    return this.#said.get(host) ?? null
  }

  /** Throws INTEGRITY for what the host has not signed. */
  add(host: string, { bytes, signature }: { bytes: Buffer; signature: Buffer }): void {
    const { created, facts } = decodeFacts(this.#parcel, bytes)
    if (!verifySignature(NS.factsSignature, bytes, signature, Buffer.from(host, 'hex'))) {
      throw new ParcelError('INTEGRITY', 'refused facts of a host with a wrong signature')
    }
    const clean = Object.fromEntries(
      Object.entries(facts).map(([name, value]) => [shown(name), shown(value)])
    )
    const before = this.#said.get(host)
    // A log is read again in parts, and several logs of one host in any order: the newest counts.
    if (before !== undefined && before.created >= created) return
    this.#said.set(host, { created, facts: clean, was: differences(before?.facts ?? clean, clean) })
  }
}

export function sameFacts(
  a: Readonly<Record<string, string>>,
  b: Readonly<Record<string, string>>
): boolean {
  return Object.keys(differences(a, b)).length === 0
}

function differences(
  before: Readonly<Record<string, string>>,
  now: Readonly<Record<string, string>>
): Record<string, string> {
  const names = new Set([...Object.keys(before), ...Object.keys(now)])
  const changed = [...names].filter((name) => (before[name] ?? '') !== (now[name] ?? ''))
  return Object.fromEntries(changed.map((name) => [name, before[name] ?? '']))
}

function shown(text: string): string {
  return printable(Buffer.from(text))
}
