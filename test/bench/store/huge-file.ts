import { createCipheriv } from 'node:crypto'
import { open } from 'node:fs/promises'

const PAGE = 4_096
/** What differs in each page and does not compress; the rest is the same in all. */
const DISTINCT = 80
const RUN = 1_048_576
const STEP = 2.5 * RUN

export interface HugeFile {
  size: number
  pages: number
}

/**
 * A sparse file in which 1 MiB of each 2.5 MiB are pages of 4 KiB that are all different and
 * compress to about a hundred bytes each: 100 GiB have 10.5 million of them. Always the same bytes.
 */
export async function writeHugeFile(path: string, wanted: number): Promise<HugeFile> {
  const runs = Math.max(1, Math.floor(wanted / STEP))
  const size = runs * STEP
  const cipher = createCipheriv('aes-128-ctr', Buffer.alloc(16, 7), Buffer.alloc(16))
  const perRun = RUN / PAGE
  const zeros = Buffer.alloc(perRun * DISTINCT)
  const bytes = Buffer.alloc(RUN, 'a page of a guest that has not much in it; ')
  const file = await open(path, 'w')
  try {
    await file.truncate(size)
    for (let n = 0; n < runs; n++) {
      const distinct = cipher.update(zeros)
      for (let page = 0; page < perRun; page++) {
        distinct.copy(bytes, page * PAGE, page * DISTINCT, (page + 1) * DISTINCT)
      }
      await file.write(bytes, 0, RUN, n * STEP)
    }
  } finally {
    await file.close()
  }
  return { size, pages: runs * perRun }
}
