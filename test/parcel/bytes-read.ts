import { readFileSync } from 'node:fs'

/** Bytes that this process, all threads of it, reads meanwhile, from the page cache or not. */
export async function bytesRead(work: () => Promise<unknown>): Promise<number> {
  const before = total()
  await work()
  return total() - before
}

function total(): number {
  return Number(/^rchar: (\d+)/m.exec(readFileSync('/proc/self/io', 'utf8'))?.[1])
}
