import { fileURLToPath } from 'node:url'
import { SOFTWARE } from '../../lib/index.js'
import { ALLOCATOR, DAEMON_FLAGS } from '../../lib/tuning.js'

export const OUR_VERSION = SOFTWARE.replace(/.* /, '')

/** One of the programs of the bench, as the daemon would be run: give it `import.meta.url`. */
export function ourProgram(path: string, from: string, ...args: string[]): [string, ...string[]] {
  const settings = Object.entries(ALLOCATOR).map(([name, value]) => `${name}=${value}`)
  const program = fileURLToPath(new URL(path, from))
  return ['env', ...settings, process.execPath, ...DAEMON_FLAGS, program, ...args]
}
