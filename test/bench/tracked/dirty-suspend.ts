import { randomBytes } from 'node:crypto'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Host, type SuspendOptions } from '../../../lib/index.js'
import type { Ranges } from './dirty-ranges.js'

/** What a suspend is told when somebody has kept count of what was written: bytes, by file. */
export function withDirty(ranges: Ranges): SuspendOptions {
  const options = { message: 'tracked', dirty: { 'disk.img': ranges } }
  return options
}

/**
 * Whether suspends take a dirty map: told that nothing was written, they then store nothing of a
 * file that was in fact written anew.
 */
export async function takesDirtyMaps(dir: string, bootstrap: string): Promise<boolean> {
  const folder = join(dir, 'folder')
  const file = join(folder, 'disk.img')
  const size = 1_048_576
  await mkdir(folder, { recursive: true })
  await writeFile(file, randomBytes(size))
  const host = await Host.create({ home: join(dir, 'home'), name: 'probe', bootstrap })
  try {
    await host.add(folder, { name: 'probe', vm: 'folder' })
    await host.suspend('probe')
    await writeFile(file, randomBytes(size))
    const { version } = await host.suspend('probe', withDirty([]))
    return version.stored < size / 2
  } finally {
    await host.close()
  }
}
