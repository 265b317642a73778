import { nullIfElsewhere } from '../errors.js'
import type { ControlBody } from '../format/control-record.js'
import type { CoreHead } from '../format/version.js'
import type { Availability } from './availability.js'
import { mayWrite } from './members/control.js'
import type { LogSet } from './logs/log-set.js'
import { covers, isPartOf } from './members/covering.js'

/** So many claims of one host, for one version, are followed by a vault: the last ones. */
const MOST_CLAIMED = 2

/** A version, by its id, and all that is needed for it. */
interface Claim {
  version: Buffer
  cores: readonly CoreHead[]
}

/**
 * Receipts that this host, `self` in hex, has not given yet for versions that are whole here. They
 * say "durable": the caller syncs the store before it writes them. A vault knows of versions only
 * what others have signed for, and signs for the same. None for what is leaving this host.
 */
export async function dueReceipts(
  set: LogSet,
  availability: Availability,
  {
    self,
    isBlind,
    isLeaving
  }: { self: string; isBlind: boolean; isLeaving: (version: Buffer) => boolean }
): Promise<ControlBody[]> {
  const due: ControlBody[] = []
  for (const { version, cores } of isBlind ? others(set) : known(set)) {
    if (isLeaving(version)) continue
    const own = set.control.receipts.of(version, self)
    if (own.some((receipt) => covers(receipt.cores, cores))) continue
    if (availability.hasCores(cores)) {
      if (!(await hasHeads(set, cores))) continue
      due.push({ type: 'receipt', version, cores: cores.map((head) => ({ head, blocks: null })) })
      continue
    }
    if (own.some((receipt) => isPartOf(receipt.cores, cores))) continue
    const known = set.history.get(version)
    const held = known === null ? null : availability.heldOf(known)
    if (held !== null && (await areHeads(set, cores))) {
      due.push({ type: 'receipt', version, cores: held })
    }
  }
  return due
}

function* known({ history }: LogSet): Generator<Claim> {
  for (const { id } of history.all()) {
    const placement = history.placement(id)
    if (placement !== null) yield { version: id, cores: placement.heads }
  }
}

/** What hosts that make versions have signed for last: a vault takes nobody else's word for what one is. */
function* others({ control }: LogSet): Generator<Claim> {
  const { roles } = control.members
  for (const version of control.receipts.versions()) {
    const claims = new Map<string, Claim[]>()
    for (const { cores, host } of control.receipts.of(version)) {
      const role = roles.get(host)
      if (role === undefined || !mayWrite(role)) continue
      if (cores.length === 0 || cores.some(({ blocks }) => blocks !== null)) continue
      const claim = { version, cores: cores.map(({ head }) => head) }
      claims.set(host, [...(claims.get(host) ?? []), claim].slice(-MOST_CLAIMED))
    }
    for (const each of claims.values()) yield* each
  }
}

/** Whether our copies, of which not all blocks are here, are known to be those logs. */
async function areHeads(set: LogSet, cores: readonly CoreHead[]): Promise<boolean> {
  for (const head of cores) if (!(await isHead(set, head))) return false
  return true
}

async function isHead(set: LogSet, head: CoreHead): Promise<boolean> {
  const here = await set.get(head.key)?.head(head.length).catch(nullIfElsewhere)
  return here?.treeHash.equals(head.treeHash) === true && here.fork === head.fork
}

/** Whether our copies are the very logs that the version's author signed for. */
async function hasHeads(set: LogSet, cores: readonly CoreHead[]): Promise<boolean> {
  for (const head of cores) {
    if (await isHead(set, head)) continue
    set.problem(set.writerOf(head.key) ?? '', 'a version names a log that it does not fit')
    return false
  }
  return true
}
