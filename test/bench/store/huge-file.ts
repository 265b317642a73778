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
 * Makes a file longer, up to about `wanted` bytes: 1 MiB of each 2.5 MiB are pages of 4 KiB that
 * are all different and compress to about a hundred bytes each, the rest is a hole. 100 GiB have
 * 10.5 million such pages. Always the same bytes.
 */
export async function appendHugeFile(path: string, wanted: number): Promise<HugeFile> {
  const cipher = createCipheriv('aes-128-ctr', Buffer.alloc(16, 7), Buffer.alloc(16))
  const perRun = RUN / PAGE
  const zeros = Buffer.alloc(perRun * DISTINCT)
  const bytes = Buffer.alloc(RUN, 'a page of a guest that has not much in it; ')
  const file = await open(path, 'a')
  const start = (await file.stat()).size
  await file.close()
  const runs = Math.max(0, Math.floor((wanted - start) / STEP))
  const image = await open(path, 'r+')
  try {
    await image.truncate(start + runs * STEP)
    for (let n = 0; n < runs; n++) {
      const distinct = cipher.update(zeros)
      for (let page = 0; page < perRun; page++) {
        distinct.copy(bytes, page * PAGE, page * DISTINCT, (page + 1) * DISTINCT)
      }
      await image.write(bytes, 0, RUN, start + n * STEP)
    }
  } finally {
    await image.close()
  }
  return { size: start + runs * STEP, pages: runs * perRun }
}
