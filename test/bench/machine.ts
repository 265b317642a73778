import { readdir, lstat, open } from 'node:fs/promises'
import { cpus, release, totalmem } from 'node:os'
import { join } from 'node:path'

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

/** Reads a file to its end, so that it is in the page cache for whoever comes next. */
export async function warm(path: string): Promise<void> {
  const file = await open(path)
  const buffer = Buffer.alloc(1_048_576)
  try {
    while ((await file.read(buffer, 0, buffer.length, null)).bytesRead > 0);
  } finally {
    await file.close()
  }
}
