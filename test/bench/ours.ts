import { fileURLToPath } from 'node:url'
import { ALLOCATOR } from '../../lib/allocator.js'
import { SOFTWARE } from '../../lib/index.js'

export const OUR_VERSION = SOFTWARE.replace(/.* /, '')

/** What the daemon is started with; hyperdrive gets it as well. */
export const NODE_FLAGS = ['--max-semi-space-size=32']

/** One of the programs of the bench, as the daemon would be run: give it `import.meta.url`. */
export function ourProgram(path: string, from: string, ...args: string[]): [string, ...string[]] {
  const settings = Object.entries(ALLOCATOR).map(([name, value]) => `${name}=${value}`)
  const program = fileURLToPath(new URL(path, from))
  return ['env', ...settings, process.execPath, ...NODE_FLAGS, program, ...args]
}
