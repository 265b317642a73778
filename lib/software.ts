import { createRequire } from 'node:module'

const { version }: { version: string } = createRequire(import.meta.url)('../../package.json')

export const VERSION = version
/** How this software calls itself to peers and to people. */
export const SOFTWARE = `hyperparcel ${version}`
