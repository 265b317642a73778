import { constants } from 'node:fs'
import { chmod, lstat, open, rm } from 'node:fs/promises'
import { once } from 'node:events'
import { createConnection, type Server, type Socket } from 'node:net'
import { basename, dirname } from 'node:path'
import { nullIfAbsent, ParcelError } from './errors.js'

/** sun_path has 108 bytes with its final zero, 104 on macOS. */
const LONGEST = process.platform === 'linux' ? 107 : 103

/** At a path that the user has chosen: throws CONFLICT when something else than a socket is there. */
export async function requireFreeSocket(path: string): Promise<void> {
  const there = await lstat(path).catch(nullIfAbsent)
  if (there === null || there.isSocket()) return
  throw new ParcelError(
    'CONFLICT',
    `${path} is there already, and is no socket: choose another path`
  )
}

/** Listens on a unix socket that only this user may connect to, replacing what is left over there. */
export async function listenOn(server: Server, path: string): Promise<void> {
  await rm(path, { force: true })
  await withShortPath(path, async (short) => {
    server.listen(short)
    await once(server, 'listening')
    await chmod(short, 0o600)
  })
}

/** Connects to a unix socket; fails with ENOENT or ECONNREFUSED when nobody listens. */
export async function connectTo(path: string): Promise<Socket> {
  return withShortPath(path, async (short) => {
    const socket = createConnection(short)
    await once(socket, 'connect')
    return socket
  })
}

/** A path too long for a socket is reached through its open folder (Linux). */
async function withShortPath<T>(path: string, work: (short: string) => Promise<T>): Promise<T> {
  if (Buffer.byteLength(path) <= LONGEST || process.platform !== 'linux') return work(path)
  const folder = await open(dirname(path), constants.O_RDONLY | constants.O_DIRECTORY)
  try {
    return await work(`/proc/self/fd/${folder.fd}/${basename(path)}`)
  } finally {
    await folder.close()
  }
}
