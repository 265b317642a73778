import { readFile, rm } from 'node:fs/promises'
import { uptime } from 'node:os'
import { join } from 'node:path'
import { writeFileAtomic } from '../keys/at-rest.js'

const FILE = 'open'

/**
 * Notes that a store is open, and in which run of the computer. A process that dies loses nothing
 * that it has appended; a computer that goes down can lose what was not synced, although peers may
 * have got it. `isSuspect`: the store was open when the computer went down.
 */
export async function markOpen(home: string): Promise<{ isSuspect: boolean }> {
  const path = join(home, FILE)
  const now = await bootId()
  const before = await readFile(path, 'utf8').catch(() => null)
  await writeFileAtomic(path, Buffer.from(now))
  return { isSuspect: before !== null && before !== now }
}

export async function markClosed(home: string): Promise<void> {
  await rm(join(home, FILE), { force: true })
}

/** Changes with each start of the computer. Elsewhere than on Linux, the minute of that start. */
async function bootId(): Promise<string> {
  try {
    return (await readFile('/proc/sys/kernel/random/boot_id', 'utf8')).trim()
  } catch {
    return `${Math.round((Date.now() / 1_000 - uptime()) / 60)}`
  }
}
