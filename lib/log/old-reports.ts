import { readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'

/** RocksDB's reports of the last runs stay, should something be wrong with it. */
const KEPT = 2

/**
 * Takes older reports of RocksDB off the disk: each time that a database is opened it begins a new one, some
 * 180 kB long in the end, and keeps a thousand of them.
 */
export async function removeOldReports(dir: string): Promise<void> {
  const reports = (await readdir(dir)).filter((name) => name.startsWith('LOG.old.')).toSorted()
  for (const name of reports.slice(0, -KEPT)) await rm(join(dir, name), { force: true })
}
