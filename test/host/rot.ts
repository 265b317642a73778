import { open, readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'

/** A file of less has no blocks of any size in it, only maps of which blocks are here. */
const BLOCKS = 65_536

async function blobs(store: string): Promise<{ path: string; size: number }[]> {
  const dir = join(store, 'db')
  const files: { path: string; size: number }[] = []
  for (const name of await readdir(dir)) {
    const path = join(dir, name)
    if (name.endsWith('.blob')) files.push({ path, size: (await stat(path)).size })
  }
  return files
}

/** Flips random bits in the files of a store that hold its blocks; its host must be off. */
export async function flipBits(store: string, count: number): Promise<void> {
  const files = (await blobs(store)).filter(({ size }) => size > BLOCKS)
  const total = files.reduce((sum, { size }) => sum + size, 0)
  for (let n = 0; n < count; n++) {
    let at = Math.floor(Math.random() * total)
    const file = files.find(({ size }) => {
      if (at < size) return true
      at -= size
      return false
    })
    if (file === undefined) throw new Error('no blocks in this store')
    await flip(file.path, at)
  }
}

/** Flips a bit in each map of which blocks are here. Returns in how many. */
export async function flipMaps(store: string): Promise<number> {
  const files = (await blobs(store)).filter(({ size }) => size > 4_096 && size < 8_192)
  for (const { path, size } of files) await flip(path, size >> 1)
  return files.length
}

async function flip(path: string, at: number): Promise<void> {
  const handle = await open(path, 'r+')
  const byte = Buffer.alloc(1)
  await handle.read(byte, 0, 1, at)
  byte[0] = (byte[0] ?? 0) ^ (1 << Math.floor(Math.random() * 8))
  await handle.write(byte, 0, 1, at)
  await handle.close()
}
