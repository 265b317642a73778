import { spawnSync } from 'node:child_process'

/** The first number with a dot in what a program says of itself; null: there is no such program. */
export function versionOf(program: string, ...args: string[]): string | null {
  const { stdout, stderr, error } = spawnSync(program, args, { encoding: 'utf8' })
  if (error !== undefined) return null
  const said = stdout + stderr
  return /\d+\.[\w.-]+/.exec(said)?.[0] ?? /\d+/.exec(said)?.[0] ?? 'unknown'
}
