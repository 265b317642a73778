import { join } from 'node:path'
import type { Volume } from '../image/volume.js'

/** Files of a machine that are not in its folder, but served out of a version. */
export interface ServedImages {
  /** Their paths within the folder, '/'-separated. */
  files: ReadonlySet<string>
  /** Folder where they are seen as files; null: nowhere, or not by this process. */
  mount: string | null
  /** Unix socket on which each is a block device by the name of its path; null without. */
  nbd: string | null
  /** Size of one and so many bytes of its beginning, for who does not see them. */
  look: (path: string, length: number) => Promise<{ size: number; head: Buffer }>
  /** The image itself, for a monitor that is in the process which has them. */
  volume: (path: string) => Volume | null
}

/** Where a machine's files are: in its folder, but for those that are served. */
export interface MachineFolder {
  /** Absolute path. */
  dir: string
  images: ServedImages | null
}

/** Whether a file is served, not in the folder. */
export function isServed({ images }: MachineFolder, path: string): boolean {
  return images?.files.has(path) === true
}

/** Absolute path of a file of the machine, wherever it is. */
export function fileOf({ dir, images }: MachineFolder, path: string): string {
  if (images?.files.has(path) !== true) return join(dir, path)
  if (images.mount === null) throw new Error('this process does not see the images')
  return join(images.mount, path)
}
