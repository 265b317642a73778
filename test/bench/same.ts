import { spawnSync } from 'node:child_process'

/** A tool that is fast because it does something else is no peer. */
export function requireSame(a: string, b: string): void {
  if (spawnSync('cmp', ['-s', a, b]).status !== 0) throw new Error(`${b} is not ${a}`)
}
