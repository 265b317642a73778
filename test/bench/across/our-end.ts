import { fileURLToPath } from 'node:url'

/** The program of one of our hosts. */
export const OUR_END = fileURLToPath(new URL('./ours-end-process.js', import.meta.url))
