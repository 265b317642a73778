import { once } from 'node:events'
import { constants } from 'node:fs'
import { open, rm, writeFile, type FileHandle } from 'node:fs/promises'
import { createServer, Socket } from 'node:net'
import { pipeline } from 'node:stream/promises'
import { z } from 'zod'
import { ParcelError } from '../errors.js'
import type { Qmp, QmpEvent } from './qmp.js'

/** Device state takes milliseconds; the limit is for a QEMU that got stuck. */
const MIGRATION_LIMIT_MS = 120_000
const SOCKET = 'device.sock'

const migrationInfo = z.object({ 'error-desc': z.string().optional() })

/**
 * Tells QEMU to leave shared memory, which is a file of the parcel, out of its migration stream,
 * and to report each step of a migration as an event. Both ends of a migration need it.
 */
export async function prepareMigration(qmp: Qmp): Promise<void> {
  await qmp.execute('migrate-set-capabilities', {
    capabilities: ['x-ignore-shared', 'events'].map((capability) => ({ capability, state: true }))
  })
}

/**
 * Writes the device state of a stopped guest into an open file. It comes over a socket in
 * `runDir` rather than by QEMU's `exec:`, which needs a shell and leaves to spawn one.
 * Throws VMM_FAILED with QEMU's words; an error of the file (a full disk) as it is.
 */
export async function saveDevices(qmp: Qmp, runDir: string, file: FileHandle): Promise<void> {
  const folder = await openFolder(runDir)
  const server = createServer({ pauseOnConnect: true })
  const sockets: Socket[] = []
  try {
    await rm(socketIn(folder), { force: true })
    server.listen(socketIn(folder))
    await once(server, 'listening')
    const written = once(server, 'connection').then(([socket]: Socket[]) => {
      if (socket === undefined) throw new Error('a connection has a socket')
      sockets.push(socket)
      return writeFile(file, socket)
    })
    await Promise.all([migrate(qmp, 'migrate'), written])
  } finally {
    for (const socket of sockets) socket.destroy()
    server.close()
    await once(server, 'close')
    // Only now: closing the server removes its socket through this descriptor.
    await folder.close()
  }
}

/**
 * Feeds a device state to a QEMU that was started to wait for one, and waits until it has taken it.
 * Throws VMM_FAILED when QEMU refuses it; with some damage QEMU just ends, its reason on stderr.
 */
export async function loadDevices(qmp: Qmp, runDir: string, path: string): Promise<void> {
  const folder = await openFolder(runDir)
  const file = await open(path, 'r')
  const socket = new Socket()
  try {
    let sendError: unknown
    await migrate(qmp, 'migrate-incoming', () => {
      socket.connect(socketIn(folder))
      pipeline(file.createReadStream({ autoClose: false }), socket).catch((error: unknown) => {
        // QEMU hangs up on what it cannot use, and says why; this is for a file we cannot read.
        sendError = error
      })
    }).catch((error: unknown) => {
      throw new ParcelError('VMM_FAILED', messageOf(error), sendError ?? error)
    })
  } finally {
    socket.destroy()
    await file.close()
    await rm(socketIn(folder), { force: true })
    await folder.close()
  }
}

/** After a failed save: stops what is left of the migration, so that the guest can go on. */
export async function cancelMigration(qmp: Qmp): Promise<void> {
  const info = z.object({ status: z.string().optional() })
  const ended = migrationEnd(qmp)
  try {
    await qmp.execute('migrate_cancel')
    const { status = 'none' } = info.parse(await qmp.execute('query-migrate'))
    if (status !== 'none' && !isFinal(status)) await ended.status
  } finally {
    ended.forget()
  }
}

async function migrate(
  qmp: Qmp,
  command: 'migrate' | 'migrate-incoming',
  begun: () => void = () => {}
): Promise<void> {
  const ended = migrationEnd(qmp)
  try {
    await qmp.execute(command, { uri: `unix:${SOCKET}` })
    begun()
    const status = await ended.status
    if (status === 'completed') return
    if (status === 'timeout') {
      throw new ParcelError(
        'VMM_FAILED',
        `QEMU took over ${MIGRATION_LIMIT_MS / 1000} s for the device state`
      )
    }
    const info = migrationInfo.parse(await qmp.execute('query-migrate'))
    const why = info['error-desc'] ?? `the migration ended as '${status}'`
    throw new ParcelError('VMM_FAILED', `QEMU: ${why}`)
  } finally {
    ended.forget()
  }
}

interface MigrationEnd {
  /** The final status, or 'timeout', or 'closed' when QEMU went away. Never rejects. */
  status: Promise<string>
  forget: () => void
}

function migrationEnd(qmp: Qmp): MigrationEnd {
  let forget = (): void => {}
  const status = new Promise<string>((resolve) => {
    const onEvent = ({ event, data }: QmpEvent): void => {
      if (event !== 'MIGRATION') return
      if (typeof data.status === 'string' && isFinal(data.status)) resolve(data.status)
    }
    const onClose = (): void => resolve('closed')
    const timer = setTimeout(() => resolve('timeout'), MIGRATION_LIMIT_MS)
    qmp.on('event', onEvent).on('close', onClose)
    forget = () => {
      clearTimeout(timer)
      qmp.off('event', onEvent).off('close', onClose)
    }
  })
  return { status, forget }
}

function isFinal(status: string): boolean {
  return ['completed', 'failed', 'cancelled'].includes(status)
}

/**
 * A unix socket's path has at most 107 bytes, so ours goes by way of the open folder; QEMU, whose
 * working folder this is, uses the bare name.
 */
function socketIn(folder: FileHandle): string {
  return `/proc/self/fd/${folder.fd}/${SOCKET}`
}

function openFolder(path: string): Promise<FileHandle> {
  return open(path, constants.O_RDONLY | constants.O_DIRECTORY)
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
