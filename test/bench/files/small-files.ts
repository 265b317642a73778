import { mkdir, open, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { filesOf } from '../real-files.js'

const ROOT = '/usr'
/** Of the real files that pieces are taken from. */
const LARGEST = 4 * 1_048_576
/** Bytes of a piece: a kilobyte or so. */
const [LEAST, MOST] = [200, 2_000]
/** Files of a folder, and folders of a folder. */
const FANOUT = 40
/** One in so many is written anew. */
const CHANGED = 20

export interface SmallFiles {
  dir: string
  paths: string[]
  bytes: number
}

/** A tree of small files, each a piece of a real file of this machine. */
export async function makeSmallFiles(dir: string, count: number): Promise<SmallFiles> {
  const paths: string[] = []
  let bytes = 0
  for await (const piece of pieces()) {
    const n = paths.length
    const folder = Math.floor(n / FANOUT)
    const path = join(dir, `${Math.floor(folder / FANOUT)}`, `${folder % FANOUT}`, `${n}`)
    await mkdir(dirname(path), { recursive: true })
    await writeFile(path, piece)
    bytes += piece.byteLength
    if (paths.push(path) === count) return { dir, paths, bytes }
  }
  throw new Error(`${ROOT} has too few files: give --data`)
}

/** Writes one in twenty anew, each time with something else; returns how many. */
export async function changeSmallFiles({ paths }: SmallFiles, time: number): Promise<number> {
  const changed = paths.filter((_, n) => n % CHANGED === 0)
  for (const [n, path] of changed.entries()) {
    await writeFile(path, `changed for the ${time}th time, ${n * time}\n`.repeat(20))
  }
  return changed.length
}

async function* pieces(): AsyncGenerator<Buffer> {
  let n = 0
  for await (const { path, size } of filesOf(ROOT, LARGEST)) {
    const file = await open(path)
    try {
      for (let at = 0; at < size;) {
        const length = LEAST + ((n++ * 7_919) % (MOST - LEAST))
        const { bytesRead, buffer } = await file.read(Buffer.alloc(length), 0, length, at)
        if (bytesRead === 0) break
        yield buffer.subarray(0, bytesRead)
        at += bytesRead
      }
    } finally {
      await file.close()
    }
  }
}
