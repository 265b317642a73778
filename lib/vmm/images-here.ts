import { ImageSet } from '../export/image-set.js'
import { ItemClient } from '../export/item-client.js'
import { WorkingSet } from '../export/working-set.js'
import type { ImagesSpec, MachineImages } from './machine-images.js'

/** In this process: for a monitor that is in it, too. */
export async function openImages(spec: ImagesSpec): Promise<MachineImages> {
  const items = await ItemClient.connect(spec.items)
  const files = new Set(spec.files)
  const workingSet = new WorkingSet(items.known)
  const set = await ImageSet.open(
    { id: spec.items.version, version: items.version, places: items.places, source: items },
    {
      overlays: spec.overlays,
      files: spec.files,
      onTouch: (path, chunk, pages) => workingSet.touch(path, chunk, pages)
    }
  )
  let settle: (reason: string | null) => void = () => {}
  const exited = new Promise<string | null>((resolve) => (settle = resolve))
  return {
    served: {
      files,
      mount: null,
      nbd: null,
      look: async () => {
        throw new Error('the images are in this process')
      },
      volume: (path) => set.volumes.get(path) ?? null
    },
    exited,
    async status() {
      const { asked, waiting } = items
      const { used, covered, known } = workingSet
      const { dirtyBytes, isDirty } = set
      return { asked, waiting, dirtyBytes, isDirty, used, covered, known, clients: 0, troubles: [] }
    },
    async flush() {
      await set.flush()
      await workingSet.save(spec.overlays)
    },
    async abandon() {
      items.close()
    },
    async end() {
      await set.flush().catch(() => {})
      items.close()
      await set.close()
      settle(null)
    }
  }
}
