import { homedir } from 'node:os'
import { resolve } from 'node:path'
import envPaths from 'env-paths'

/** `--home`, else HYPERPARCEL_HOME, else the platform's data folder. */
export function homeDir(explicit?: string): string {
  const chosen = explicit ?? process.env['HYPERPARCEL_HOME'] ?? ''
  if (chosen !== '') return resolve(chosen.replace(/^~(?=\/|$)/, homedir()))
  return envPaths('hyperparcel', { suffix: '' }).data
}
