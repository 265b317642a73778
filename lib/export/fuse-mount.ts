import { execFile, spawn } from 'node:child_process'
import { closeSync, constants, openSync } from 'node:fs'
import { promisify } from 'node:util'
import { ParcelError } from '../errors.js'
import { FuseDevice } from './fuse-device.js'
import type { FuseFileSystem } from './fuse.js'
import { MAX_WRITE } from './fuse-protocol.js'
import { abortConnection, FUSE_FD, fuserunmount } from './fusermount.js'

const run = promisify(execFile)

/** So long an unmount may take before it is forced, ms. */
const GENTLE = 10_000

/** A file system of ours at a folder. */
export interface Mounted {
  /** Settles when it is not mounted any more, whoever did that. */
  ended: Promise<void>
  /** Takes it away, from whoever still uses it too. */
  unmount(): Promise<void>
  /** Somebody still had it after that: the kernel lets go of this process only when it is killed. */
  readonly isHeld: boolean
}

/**
 * Mounts a file system at a folder, in the mount namespace of this process: as root (also within
 * `unshare -Urm`) by mount(8), otherwise by fusermount, which has done it before this process came.
 * Throws FAILED, saying what is in the way.
 */
export async function mountFuse(dir: string, fileSystem: FuseFileSystem): Promise<Mounted> {
  const given = Number(process.env[FUSE_FD] ?? -1)
  const fd = given >= 0 ? given : await mountAsRoot(dir)
  // Only now: before the mount there is nothing to be read.
  const device = new FuseDevice(fd, fileSystem)
  let hasEnded = false
  const served = device.ended().then(() => (hasEnded = true))
  let giveUp = (): void => {}
  const givenUp = new Promise<void>((resolve) => (giveUp = resolve))
  const mounted = {
    ended: Promise.race([served, givenUp]).then(() => {}),
    isHeld: false,
    async unmount() {
      if (hasEnded) return
      // First the way that has the kernel write back what programs have put into maps.
      const isGone = await unmount(dir)
      fileSystem.abandon()
      if (isGone) return
      // By force, which ends the connection: a reader of the device waits in the kernel until then.
      if (await unmountByForce(dir)) device.close()
      else {
        // Whoever has something open keeps it until this process is gone; it gets errors meanwhile.
        mounted.isHeld = true
        giveUp()
      }
    }
  }
  return mounted
}

/** Takes away what fusermount has mounted for a process that cannot serve it after all. */
export async function unmountUnserved(dir: string): Promise<void> {
  if (process.env[FUSE_FD] !== undefined) await unmountByForce(dir)
}

async function unmount(dir: string): Promise<boolean> {
  if (process.env[FUSE_FD] !== undefined) return fuserunmount(dir)
  return run('umount', ['-i', dir], { timeout: GENTLE }).then(
    () => true,
    () => false
  )
}

/** Whether nobody has it any more. */
async function unmountByForce(dir: string): Promise<boolean> {
  if (process.env[FUSE_FD] === undefined) {
    await run('umount', ['-i', '-f', '-l', dir]).catch(() => {})
    return true
  }
  const isGone = await abortConnection(dir)
  await fuserunmount(dir, ['-z'])
  return isGone
}

async function mountAsRoot(dir: string): Promise<number> {
  const fd = openDevice()
  const options = [
    'fd=3',
    'rootmode=40000',
    `user_id=${process.getuid?.() ?? 0}`,
    `group_id=${process.getgid?.() ?? 0}`,
    'default_permissions',
    'allow_other',
    `max_read=${MAX_WRITE}`
  ]
  try {
    await mount(fd, ['-i', '-t', 'fuse.hyperparcel', '-o', options.join(','), 'hyperparcel', dir])
  } catch (error) {
    closeSync(fd)
    throw error
  }
  return fd
}

function openDevice(): number {
  try {
    return openSync('/dev/fuse', constants.O_RDWR)
  } catch (error) {
    throw new ParcelError(
      'FAILED',
      "/dev/fuse cannot be opened: load the module 'fuse', or ask for access to the device",
      error
    )
  }
}

async function mount(fd: number, args: readonly string[]): Promise<void> {
  const child = spawn('mount', args, { stdio: ['ignore', 'ignore', 'pipe', fd] })
  let complaint = ''
  child.stderr?.setEncoding('utf8').on('data', (text: string) => (complaint += text))
  const status = await new Promise<number | null>((resolve, reject) => {
    child.once('error', reject)
    child.once('close', resolve)
  }).catch((error: unknown) => {
    throw new ParcelError('FAILED', "cannot start 'mount'", error)
  })
  if (status === 0) return
  throw new ParcelError('FAILED', `cannot mount: ${complaint.trim() || `status ${status}`}`)
}
