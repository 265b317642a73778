import { execFile, spawn } from 'node:child_process'
import { closeSync, constants, openSync } from 'node:fs'
import { promisify } from 'node:util'
import { ParcelError } from '../errors.js'
import { FuseDevice, type FuseFileSystem } from './fuse.js'
import { MAX_WRITE } from './fuse-protocol.js'

const run = promisify(execFile)

/** So long an unmount may take before it is forced, ms. */
const GENTLE = 10_000

/** A file system of ours at a folder. */
export interface Mounted {
  /** Settles when it is not mounted any more, whoever did that. */
  ended: Promise<void>
  /** Takes it away, from whoever still uses it too. */
  unmount(): Promise<void>
}

/**
 * Mounts a file system at a folder, in the mount namespace of this process, which must be allowed
 * to: root, or within `unshare -Urm`. Throws FAILED, saying what is in the way.
 */
export async function mountFuse(dir: string, fileSystem: FuseFileSystem): Promise<Mounted> {
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
  // Only now: before the mount there is nothing to be read.
  const device = new FuseDevice(fd, fileSystem)
  return {
    ended: device.ended(),
    async unmount() {
      // First the way that has the kernel write back what programs have put into maps.
      const isGone = await run('umount', ['-i', dir], { timeout: GENTLE }).then(
        () => true,
        () => false
      )
      fileSystem.abandon()
      if (isGone) return
      // By force, which ends the connection: a reader of the device waits in the kernel until then.
      await run('umount', ['-i', '-f', '-l', dir]).catch(() => {})
      device.close()
    }
  }
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
