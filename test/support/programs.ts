import { execFile, execFileSync } from 'node:child_process'
import { promisify } from 'node:util'

const run = promisify(execFile)

/** Why a test that needs these programs cannot run; false when it can. */
export function missing(programs: readonly string[]): string | false {
  const lacking = programs.filter((program) => {
    try {
      execFileSync('sh', ['-c', 'command -v "$0"', program], { stdio: 'ignore' })
      return false
    } catch {
      return true
    }
  })
  return lacking.length > 0 && `not installed: ${lacking.join(', ')}`
}

/** Runs a program and returns what it printed. Throws with its complaint. */
export async function output(program: string, args: readonly string[]): Promise<string> {
  const { stdout } = await run(program, args, { maxBuffer: 64 * 1_048_576, timeout: 120_000 })
  return stdout
}
