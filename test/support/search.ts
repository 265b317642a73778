import { open, readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { nullIfAbsent } from '../../lib/errors.js'

/** Ways in which a secret could stand in a file. */
export function encodings(secret: Buffer): Map<string, Buffer> {
  const hex = secret.toString('hex')
  return new Map([
    ['raw', secret],
    ['hex', Buffer.from(hex)],
    ['HEX', Buffer.from(hex.toUpperCase())],
    ['base64', Buffer.from(secret.toString('base64').slice(0, -4))],
    ['base64url', Buffer.from(secret.toString('base64url').slice(0, -4))]
  ])
}

/** Which of the needles stand in which file below a folder, as 'file: needle'. */
export async function search(
  folder: string,
  needles: ReadonlyMap<string, Buffer>,
  skip: (path: string) => boolean = () => false
): Promise<string[]> {
  const found: string[] = []
  const longest = Math.max(...[...needles.values()].map((needle) => needle.byteLength))
  for (const entry of await readdir(folder, { recursive: true, withFileTypes: true })) {
    const path = join(entry.parentPath, entry.name)
    if (!entry.isFile() || skip(path)) continue
    // A store that is open takes away files of its own meanwhile.
    const file = await open(path).catch(nullIfAbsent)
    if (file === null) continue
    let tail = Buffer.alloc(0)
    for await (const part of file.createReadStream()) {
      const bytes = Buffer.concat([tail, Buffer.from(part)])
      for (const [name, needle] of needles)
        if (bytes.includes(needle)) found.push(`${path}: ${name}`)
      tail = bytes.subarray(-longest)
    }
  }
  return [...new Set(found)]
}
