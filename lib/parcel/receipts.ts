import type { ControlBody } from '../format/control-record.js'
import type { Availability } from './availability.js'
import type { Known } from './history.js'
import type { LogSet } from './log-set.js'

/**
 * Receipts that this host, `self` in hex, has not given yet for versions that are whole here. They
 * say "durable": the caller syncs the store before it writes them.
 */
export async function dueReceipts(
  set: LogSet,
  availability: Availability,
  self: string
): Promise<ControlBody[]> {
  const due: ControlBody[] = []
  for (const known of set.history.all()) {
    if (availability.holders(known).has(self)) continue
    if (!(await availability.isHere(known)) || !(await hasHeads(set, known))) continue
    const cores = known.version.cores.map((head) => ({ head, blocks: null }))
    due.push({ type: 'receipt', version: known.id, cores })
  }
  return due
}

/** Whether our copies are the very logs that the version's author signed for. */
async function hasHeads(set: LogSet, { version }: Known): Promise<boolean> {
  for (const head of version.cores) {
    const here = await set.get(head.key)?.head(head.length)
    if (here?.treeHash.equals(head.treeHash) === true && here.fork === head.fork) continue
    set.problem(version.author.toString('hex'), 'a version names a log that it does not fit')
    return false
  }
  return true
}
