import type Hypercore from 'hypercore'
import { tree } from 'hypercore-crypto'
import type { SignedState } from '../format/signed-state.js'
import type { KeyPair } from '../keys/identity.js'

/** What the writer of a core has signed last; null for an empty one. */
export async function signedState(core: Hypercore): Promise<Omit<SignedState, 'asked'> | null> {
  for (;;) {
    const { length } = core
    if (length === 0) return null
    const { fork, upgrade } = await core.proof({ upgrade: { start: 0, length } })
    // It grew meanwhile: the signature is of more.
    if (upgrade === null || upgrade.additionalNodes.length > 0) continue
    return { fork, length, roots: upgrade.nodes, signature: upgrade.signature }
  }
}

/** The tree hash of a state that somebody shows; null: the core's writer has not signed it. */
export async function provenHash(
  core: Hypercore,
  { fork, length, roots, signature }: SignedState
): Promise<Buffer | null> {
  const upgrade = { start: 0, length, nodes: roots, additionalNodes: [], signature }
  const none = { block: null, hash: null, seek: null, manifest: null }
  try {
    await core.verifyFullyRemote({ fork, upgrade, ...none })
  } catch {
    return null
  }
  return tree(roots)
}

/** Lengths at which the tree hash of a log follows from its roots now, ascending, with that hash. */
export function hashesWithin({
  roots
}: Pick<SignedState, 'roots'>): { length: number; treeHash: Buffer }[] {
  let length = 0
  return roots.map(({ index }, i) => {
    length += blocksBelow(index)
    return { length, treeHash: tree(roots.slice(0, i + 1)) }
  })
}

/** How many blocks are below a node: 2 to the number of ones at the end of its index. */
function blocksBelow(index: number): number {
  let blocks = 1
  for (let rest = index; rest % 2 === 1; rest = (rest - 1) / 2) blocks *= 2
  return blocks
}

/** The writer's signature of what a core was at an earlier length. */
export async function signatureAt(
  core: Hypercore,
  length: number,
  keyPair: KeyPair
): Promise<Buffer> {
  const batch = core.core.state.createTreeBatch()
  await batch.restore(length)
  return core.core.verifier.sign(batch, keyPair)
}

/** Whether the writer of a core has signed what it was at an earlier length. */
export async function isSignedAt(
  core: Hypercore,
  length: number,
  signature: Buffer
): Promise<boolean> {
  const batch = core.core.state.createTreeBatch()
  try {
    await batch.restore(length)
    return core.core.verifier.verify(batch, signature)
  } catch {
    return false
  }
}

/** Takes a core back to an earlier length, which its writer has signed. Throws when it has not. */
export async function rewind(core: Hypercore, length: number, signature: Buffer): Promise<void> {
  // As another session would: one of another host's core is read-only.
  await core.core.state.truncate(length, core.fork, { signature })
}

/**
 * Calls back when a peer shows another state of a core than is here, and keeps the core as it is:
 * hypercore 11 would close all sessions of it, here and there, and replicate it with nobody any more.
 */
export function onOtherPast(core: Hypercore, callback: () => void): void {
  const shared = core.core
  // A core may be open twice, as of two kinds.
  const before = Object.hasOwn(shared, 'checkConflict') ? shared.checkConflict : null
  shared.checkConflict = async (proof) => {
    callback()
    await before?.(proof)
    return true
  }
}
