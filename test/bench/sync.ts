import { spawnSync } from 'node:child_process'

/** Writes out what is dirty, so that nobody pays for what another left behind. */
export function sync(): void {
  spawnSync('sync')
}
