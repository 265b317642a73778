import type CoreStorage from 'hypercore-storage'

/** Of hypercore's map of which blocks are here. */
const PAGE_BYTES = 4_096
const PAGE_BITS = PAGE_BYTES * 8

/**
 * Makes a core's map of which blocks are here anew, out of the blocks themselves: what rots of it is
 * no loss. A block that cannot be read counts as one that is here, so that whoever looks finds it
 * damaged. Returns false for a core that is not in the store.
 */
export async function mendBitfield(storage: CoreStorage, discoveryKey: Buffer): Promise<boolean> {
  const core = await storage.resumeCore(discoveryKey)
  if (core === null) return false
  try {
    const look = core.read()
    const found = look.getHead()
    look.tryFlush()
    const length = (await found)?.length ?? 0
    for (let first = 0; first < length; first += PAGE_BITS) {
      const page = Buffer.alloc(PAGE_BYTES)
      const end = Math.min(first + PAGE_BITS, length)
      for (let index = first; index < end; index++) {
        const rx = core.read()
        const block = rx.getBlock(index).then(
          (bytes) => bytes !== null,
          () => true
        )
        rx.tryFlush()
        const bit = index - first
        if (await block) page[bit >> 3] = (page[bit >> 3] ?? 0) | (1 << (bit & 7))
      }
      const tx = core.write()
      tx.putBitfieldPage(first / PAGE_BITS, page)
      await tx.flush()
    }
    return true
  } finally {
    await core.close()
  }
}
