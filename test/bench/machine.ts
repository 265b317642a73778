import { closeSync, openSync, readSync } from 'node:fs'
import { lstat, readdir, rm, truncate, writeFile } from 'node:fs/promises'
import { cpus, release, totalmem } from 'node:os'
import { join } from 'node:path'
import { sync } from './sync.js'

/** Bytes of free memory that are touched: more than any step of the bench takes anew. */
const MEMORY = 4 * 2 ** 30
const BUFFER = Buffer.alloc(1_048_576)

export interface Machine {
  cpu: string
  cores: number
  memory: number
  kernel: string
  node: string
}

export function thisMachine(): Machine {
  const all = cpus()
  return {
    cpu: all[0]?.model.trim() ?? 'unknown',
    cores: all.length,
    memory: totalmem(),
    kernel: release(),
    node: process.version
  }
}

/** Bytes that a folder takes on the disk. */
export async function diskUsage(dir: string): Promise<number> {
  let bytes = 0
  for (const entry of await readdir(dir, { recursive: true, withFileTypes: true })) {
    if (entry.isFile()) bytes += (await lstat(join(entry.parentPath, entry.name))).blocks * 512
  }
  return bytes
}

/**
 * Makes the next step independent of what was before it: the files that it reads are in the page cache,
 * nothing is waiting to be written, and free memory is there. A virtual machine gives free pages back to
 * its host, and then the first touch of each costs ten times a copy: whoever comes after a pause pays it.
 */
export async function makeReady(dir: string, files: readonly string[]): Promise<void> {
  const holes = join(dir, 'holes')
  await writeFile(holes, '')
  await truncate(holes, Math.min(MEMORY, totalmem() / 4))
  readToEnd(holes)
  await rm(holes)
  for (const path of files) readToEnd(path)
  sync()
}

function readToEnd(path: string): void {
  const file = openSync(path, 'r')
  try {
    while (readSync(file, BUFFER, 0, BUFFER.length, null) > 0);
  } finally {
    closeSync(file)
  }
}
