import { open, readFile } from 'node:fs/promises'

const PIECE = 16 * 1_048_576

/** Finds any of many byte strings, each of at least four bytes, in one pass. */
export class Needles {
  readonly #names = new Map<number, { name: string; bytes: Buffer }[]>()
  readonly #begins = new Uint8Array(65_536)
  readonly longest: number

  constructor(needles: ReadonlyMap<string, Buffer>) {
    for (const [name, bytes] of needles) {
      this.#begins[bytes.readUInt16LE(0)] = 1
      const head = bytes.readUInt32LE(0)
      this.#names.set(head, [...(this.#names.get(head) ?? []), { name, bytes }])
    }
    this.longest = Math.max(...[...needles.values()].map(({ byteLength }) => byteLength))
  }

  /** Names of those that stand in `bytes`. */
  in(bytes: Buffer): Set<string> {
    const found = new Set<string>()
    const end = bytes.byteLength - 3
    for (let at = 0; at < end; at++) {
      const pair = (bytes[at] ?? 0) | ((bytes[at + 1] ?? 0) << 8)
      if (this.#begins[pair] === 0) continue
      for (const needle of this.#names.get(bytes.readUInt32LE(at)) ?? []) {
        const part = bytes.subarray(at, at + needle.bytes.byteLength)
        if (part.equals(needle.bytes)) found.add(needle.name)
      }
    }
    return found
  }
}

/** Which of the needles stand in what a process can write to: heap, stack, buffers. Needs its rights, or root's. */
export async function inMemory(
  pid: number,
  needles: Needles
): Promise<{ found: Set<string>; bytes: number }> {
  const maps = await readFile(`/proc/${pid}/maps`, 'utf8')
  const memory = await open(`/proc/${pid}/mem`)
  const found = new Set<string>()
  let searched = 0
  try {
    for (const [, from = '', to = ''] of maps.matchAll(/^([0-9a-f]+)-([0-9a-f]+) rw/gm)) {
      const [start, end] = [Number.parseInt(from, 16), Number.parseInt(to, 16)]
      for (let at = start; at < end; at += PIECE - needles.longest) {
        const piece = Buffer.alloc(Math.min(PIECE, end - at))
        const { bytesRead } = await memory
          .read(piece, 0, piece.byteLength, at)
          .catch(() => ({ bytesRead: 0 }))
        searched += bytesRead
        for (const name of needles.in(piece.subarray(0, bytesRead))) found.add(name)
      }
    }
  } finally {
    await memory.close()
  }
  return { found, bytes: searched }
}
