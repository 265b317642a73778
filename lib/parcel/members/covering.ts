import type { HeldCore } from '../../format/control-record.js'
import type { CoreHead } from '../../format/version.js'

/** Whether a receipt is for logs of which not all blocks are needed: for those that are, in its words. */
export function isPartOf(held: readonly HeldCore[], cores: readonly CoreHead[]): boolean {
  return (
    held.length === cores.length &&
    cores.every((head) => held.some((each) => each.blocks !== null && isSameHead(each.head, head)))
  )
}

function isSameHead(a: CoreHead, b: CoreHead): boolean {
  const isSame = a.key.equals(b.key) && a.treeHash.equals(b.treeHash)
  return isSame && a.fork === b.fork && a.length === b.length
}

/** Whether a receipt is for these states of logs, all of them or what is needed of them. */
export function isFor(held: readonly HeldCore[], cores: readonly CoreHead[]): boolean {
  return covers(held, cores) || isPartOf(held, cores)
}

/** Whether a receipt is for all that a version names. */
export function covers(held: readonly HeldCore[], cores: readonly CoreHead[]): boolean {
  return cores.every((head) =>
    held.some((each) => each.blocks === null && isSameHead(each.head, head))
  )
}
