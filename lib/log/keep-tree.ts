import type Hypercore from 'hypercore'

/**
 * Keeps what proves other blocks when some are cleared: hypercore 11 takes away, with a block, the hash
 * of the block or of all blocks below a node that stands to its left under the same parent. Nodes are
 * deleted one by one for a truncation too, which names a range of them first.
 */
export function keepTree(core: Hypercore): void {
  const { state } = core.core
  // Sessions of one core share it.
  if (Object.hasOwn(state, 'createWriteBatch')) return
  const create = state.createWriteBatch.bind(state)
  state.createWriteBatch = () => {
    const tx = create()
    const deleteRange = tx.deleteTreeNodeRange.bind(tx)
    const deleteOne = tx.deleteTreeNode.bind(tx)
    let isTruncation = false
    tx.deleteTreeNodeRange = (start, end) => {
      isTruncation = true
      deleteRange(start, end)
    }
    tx.deleteTreeNode = (index) => {
      if (isTruncation) deleteOne(index)
    }
    return tx
  }
}
