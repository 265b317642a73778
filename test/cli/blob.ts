import { open } from 'node:fs/promises'
import { randomFillSync } from 'node:crypto'

/** A file of bytes that do not compress, with a hole of the same length behind them. */
export async function randomFile(path: string, mebibytes: number): Promise<void> {
  const handle = await open(path, 'w')
  const block = Buffer.allocUnsafe(8 << 20)
  for (let at = 0; at < mebibytes / 2; at += 8) {
    randomFillSync(block)
    await handle.write(block, 0, Math.min(8, mebibytes / 2 - at) << 20, at << 20)
  }
  await handle.truncate(mebibytes * (1 << 20))
  await handle.close()
}
