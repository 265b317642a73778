import { execFileSync } from 'node:child_process'
import { mkdtemp, rmdir } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import { onEnd } from './on-end.js'

/** Why there can be no small disk here; false when there can. */
export const NO_MOUNT = whyNoMount()

function whyNoMount(): string | false {
  if (process.getuid?.() !== 0) return 'needs root to mount a small disk'
  try {
    execFileSync('unshare', ['-m', 'sh', '-c', 'mount -t tmpfs tmpfs /mnt'], { stdio: 'ignore' })
    return false
  } catch {
    return 'mounting is not permitted here'
  }
}

/** A disk of its own of so many MiB. */
export async function smallDisk(t: TestContext, mebibytes: number): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), 'hyperparcel-disk-'))
  onEnd(t, () => rmdir(dir))
  execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${mebibytes}m,mode=755`, 'tmpfs', dir])
  onEnd(t, () => execFileSync('umount', ['-l', dir]))
  return dir
}
