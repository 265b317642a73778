import { randomFrom } from '../support/random.js'

export const STEPS = 14

/** The file that the so many-th version has anew. */
export function fileOf(step: number): { name: string; bytes: Buffer } {
  const random = randomFrom(step)
  const bytes = Buffer.alloc(1_000 + random(60_000))
  for (let at = 0; at < bytes.byteLength; at++) bytes[at] = random(256)
  return { name: `file-${step % 3}`, bytes }
}

/** What is in the folder at the so many-th version. */
export function filesAt(step: number): Map<string, Buffer> {
  const files = new Map<string, Buffer>()
  for (let n = 0; n <= step; n++) {
    const { name, bytes } = fileOf(n)
    files.set(name, bytes)
  }
  return files
}
