import type { ChildProcess } from 'node:child_process'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { ImageProcess, itemsAddress, type ServerStatus } from '../export/image-process.js'
import type { ServedImages } from './machine-folder.js'

/** Which files of a machine are served, out of which version. */
export const imagesSpec = z.strictObject({
  items: itemsAddress,
  overlays: z.string(),
  files: z.array(z.string()),
  /** Whether one of them, such as memory that is mapped, must be seen as a file. */
  isMounted: z.boolean()
})
export type ImagesSpec = z.infer<typeof imagesSpec>

/** Names in the folder of a running machine's sockets. */
const MOUNT = 'images'
const NBD_SOCKET = 'nbd.sock'

/** The served files of one running machine, and whoever serves them. */
export interface MachineImages {
  readonly served: ServedImages
  /** Settles when they are not served any more; the text says why, null when that was asked for. */
  readonly exited: Promise<string | null>
  status(): Promise<ServerStatus>
  /** What was written is on stable storage when it settles. */
  flush(): Promise<void>
  /** Lets whoever waits for something fail. */
  abandon(): Promise<void>
  end(): Promise<void>
}

/** By a process of their own, as files and as block devices: for a monitor that is another program. */
export async function serveImages(
  { isMounted, ...spec }: ImagesSpec,
  runDir: string,
  prepared: ChildProcess | null
): Promise<MachineImages> {
  const mount = isMounted ? join(runDir, MOUNT) : null
  if (mount !== null) await mkdir(mount, { recursive: true, mode: 0o700 })
  const server = await ImageProcess.start(
    {
      ...spec,
      mount,
      nbd: { socket: join(runDir, NBD_SOCKET) },
      // A guest wants its pages in no order.
      readahead: 0,
      isReadOnly: false,
      isPatient: true
    },
    prepared
  )
  const files = new Set(spec.files)
  return {
    // The monitor runs in that folder: a long path would not fit into a socket's name.
    served: {
      files,
      mount,
      nbd: NBD_SOCKET,
      look: (path, length) => server.look(path, length),
      volume: () => null
    },
    exited: server.exited,
    status: () => server.status(),
    flush: () => server.flush(),
    abandon: () => server.abandon(),
    end: () => server.end()
  }
}
