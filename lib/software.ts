import { readFileSync } from 'node:fs'
import { z } from 'zod'

const { version } = z
  .object({ version: z.string() })
  .parse(JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')))

export const VERSION = version
/** How this software calls itself to peers and to people. */
export const SOFTWARE = `hyperparcel ${version}`
