import type { ChildProcess } from 'node:child_process'
import { rmSync } from 'node:fs'
import { mkdtemp, realpath } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

const folders = new Set<string>()
const groups = new Set<number>()

/** A folder that goes away with the process, however that ends short of SIGKILL. */
export async function scratchFolder(): Promise<string> {
  const dir = await realpath(await mkdtemp(join(tmpdir(), 'hyperparcel-bench-')))
  folders.add(dir)
  return dir
}

/** Ends a child that was started `detached`, with what it started, when this process ends. */
export function endWithUs(child: ChildProcess): void {
  const { pid } = child
  if (pid === undefined) return
  groups.add(pid)
  child.once('exit', () => groups.delete(pid))
}

export function cleanUp(): void {
  for (const pid of groups) {
    try {
      process.kill(-pid, 'SIGKILL')
    } catch {
      // It ended by itself meanwhile.
    }
  }
  groups.clear()
  for (const dir of folders) rmSync(dir, { recursive: true, force: true, maxRetries: 5 })
  folders.clear()
}

process.on('exit', cleanUp)
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.on(signal, () => process.exit(130))
}
