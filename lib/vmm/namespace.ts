import { execFile } from 'node:child_process'
import { accessSync, constants } from 'node:fs'
import { promisify } from 'node:util'

const run = promisify(execFile)

/**
 * By what a program is started so that it may mount for itself and its children, and for nobody
 * else: what it mounts is gone with them, however they end. A plain user needs a user namespace for
 * it, in which it is root.
 */
export function namespaceOf(): string[] {
  return process.getuid?.() === 0 ? ['unshare', '-m'] : ['unshare', '-U', '-r', '-m']
}

/** Why no file system of ours can be mounted here, in one line with what to do; null when it can. */
export function noFuse(): string | null {
  if (process.platform !== 'linux') return 'there is no FUSE on this system'
  try {
    accessSync('/dev/fuse', constants.R_OK | constants.W_OK)
  } catch {
    return "/dev/fuse cannot be opened: 'modprobe fuse', or have its mode set to 0666"
  }
  return null
}

let isMade = false

/** Why no namespace can be made here, in the system's words; null when it can, or could since the start. */
export async function noNamespace(): Promise<string | null> {
  if (isMade) return null
  const [program, ...args] = [...namespaceOf(), 'true']
  try {
    await run(program, args, { timeout: 10_000 })
    isMade = true
    return null
  } catch (error) {
    const text = error instanceof Error ? error.message : String(error)
    return `'${[program, ...args].join(' ')}' fails: ${text.trim().split('\n').at(-1) ?? ''}`
  }
}
