import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { dirname, join, relative } from 'node:path'
import type { Random } from '../support/random.js'
import type { Event } from './trace.js'

/** What a disk may lose of a write at a time, bytes. */
const SECTOR = 512

interface Change {
  bytes: Buffer | null
  /** Where the bytes are written; with null, the length from now on. */
  at: number
}

/** A file, whatever it is called. */
interface Inode {
  /** What was written before the last sync, and after it. */
  synced: Change[]
  loose: Change[]
}

/** A change of the names in a folder. */
interface Naming {
  dir: string
  isSynced: boolean
  apply: (names: Map<string, Inode | 'folder'>) => void
  /** What is durable once this is. */
  inode: Inode | null
}

/**
 * A disk that is written to as a trace says, and loses its power. What was synced is there: the bytes of a
 * file that was, and the names in a folder that was, or of a file that was. Of the rest the disk has kept
 * what it happened to: of writes any, whole or in part, in any order; of the names in a folder the first few.
 */
export class Disk {
  readonly #root: string
  readonly #names = new Map<string, Inode | 'folder'>()
  readonly #first = new Map<string, Inode | 'folder'>()
  readonly #namings: Naming[] = []
  readonly #open = new Map<number, { inode: Inode | null; path: string; at: number }>()

  private constructor(root: string) {
    this.#root = root
  }

  /** With all that is below a folder now, durably. */
  static async of(root: string): Promise<Disk> {
    const disk = new Disk(root)
    for (const entry of await readdir(root, { recursive: true, withFileTypes: true })) {
      const path = join(entry.parentPath, entry.name)
      const bytes = entry.isDirectory() ? null : await readFile(path)
      const known = bytes === null ? 'folder' : { synced: [{ bytes, at: 0 }], loose: [] }
      disk.#names.set(path, known)
      disk.#first.set(path, known)
    }
    return disk
  }

  apply(event: Event): void {
    switch (event.kind) {
      case 'open':
        this.#openFile(event)
        return
      case 'write': {
        const file = this.#open.get(event.fd)
        if (file === undefined || file.inode === null) return
        const at = event.at ?? (file.at === Infinity ? lengthOf(file.inode) : file.at)
        file.inode.loose.push({ bytes: event.bytes, at })
        if (event.at === null && file.at !== Infinity) file.at = at + event.bytes.byteLength
        return
      }
      case 'truncate':
        this.#open.get(event.fd)?.inode?.loose.push({ bytes: null, at: event.length })
        return
      case 'sync':
        this.#sync(event.fd)
        return
      case 'rename': {
        const moved = [...this.#names].filter(
          ([path]) => path === event.from || path.startsWith(`${event.from}/`)
        )
        const to = moved.map(
          ([path, inode]) => [event.to + path.slice(event.from.length), inode] as const
        )
        const [, inode = null] = moved[0] ?? []
        this.#rename(dirname(event.to), inode === 'folder' ? null : inode, (names) => {
          for (const [path] of moved) names.delete(path)
          for (const [path, known] of to) names.set(path, known)
        })
        return
      }
      case 'unlink':
        this.#rename(dirname(event.path), null, (names) => names.delete(event.path))
        return
      case 'mkdir':
        this.#rename(dirname(event.path), null, (names) => names.set(event.path, 'folder'))
        return
      case 'said':
    }
  }

  /** Whether a file is there, with all that was written to it, whatever happens now. */
  isSafe(path: string): boolean {
    const inode = this.#names.get(path)
    if (inode === undefined || inode === 'folder') return false
    const isLoose = this.#namings.some((naming) => naming.inode === inode && !naming.isSynced)
    return inode.loose.length === 0 && !isLoose
  }

  /** Writes what is left after a loss of power into a folder, but for some files. */
  async lose(
    to: string,
    random: Random,
    isLeft: (path: string) => boolean = () => false
  ): Promise<void> {
    const names = new Map(this.#first)
    // How much a disk keeps of what it need not: little, or nearly all.
    const mercy = [0, 50, 100][random(3)] ?? 0
    const ended = new Set<string>()
    for (const { dir, isSynced, apply } of this.#namings) {
      if (!isSynced && !ended.has(dir) && random(100) >= mercy) ended.add(dir)
      if (isSynced || !ended.has(dir)) apply(names)
    }
    const folders = [...names].filter(([, inode]) => inode === 'folder').map(([path]) => path)
    for (const path of folders) await mkdir(this.#in(to, path), { recursive: true })
    for (const [path, inode] of names) {
      if (inode === 'folder' || isLeft(path)) continue
      const kept = inode.loose.flatMap((change) =>
        random(100) < mercy ? torn(change, random) : []
      )
      await mkdir(dirname(this.#in(to, path)), { recursive: true })
      await writeFile(this.#in(to, path), contents([...inode.synced, ...kept]))
    }
  }

  #in(to: string, path: string): string {
    return join(to, relative(this.#root, path))
  }

  #openFile({ fd, path, isNew, isCut, isAtEnd }: Event & { kind: 'open' }): void {
    let inode = this.#names.get(path)
    if (inode === undefined && isNew) {
      const made: Inode = { synced: [], loose: [] }
      inode = made
      this.#rename(dirname(path), made, (names) => names.set(path, made))
    }
    if (inode === undefined || inode === 'folder') {
      this.#open.set(fd, { inode: null, path, at: 0 })
      return
    }
    if (isCut) inode.loose.push({ bytes: null, at: 0 })
    this.#open.set(fd, { inode, path, at: isAtEnd ? Infinity : 0 })
  }

  #rename(dir: string, inode: Inode | null, apply: Naming['apply']): void {
    this.#namings.push({ dir, isSynced: false, apply, inode })
    apply(this.#names)
  }

  #sync(fd: number): void {
    const file = this.#open.get(fd)
    if (file === undefined) return
    const { inode } = file
    if (inode !== null) inode.synced.push(...inode.loose.splice(0))
    for (const naming of this.#namings) {
      const isIn = inode === null ? naming.dir === file.path : naming.inode === inode
      // A file or folder that is durable is found: so are the folders above it.
      const isAbove = file.path.startsWith(`${naming.dir}/`) && naming.inode === null
      if (isIn || isAbove) naming.isSynced = true
    }
  }
}

/** What is left of a change: all of it, its beginning, or any sectors. */
function torn({ bytes, at }: Change, random: Random): Change[] {
  const dice = random(4)
  if (bytes === null || dice < 2) return [{ bytes, at }]
  const sectors = Math.ceil(bytes.byteLength / SECTOR)
  if (dice === 2) {
    const end = SECTOR * random(sectors + 1)
    return [{ bytes: bytes.subarray(0, end), at }]
  }
  return Array.from({ length: sectors }, (_, n) => n).flatMap((n) =>
    random(2) === 0
      ? []
      : [{ bytes: bytes.subarray(n * SECTOR, (n + 1) * SECTOR), at: at + n * SECTOR }]
  )
}

function lengthOf({ synced, loose }: Inode): number {
  let length = 0
  for (const { bytes, at } of [...synced, ...loose]) {
    length = bytes === null ? at : Math.max(length, at + bytes.byteLength)
  }
  return length
}

function contents(changes: readonly Change[]): Buffer {
  let file = Buffer.alloc(0)
  for (const { bytes, at } of changes) {
    const end = bytes === null ? at : Math.max(file.byteLength, at + bytes.byteLength)
    if (end !== file.byteLength) {
      const longer = Buffer.alloc(end)
      file.copy(longer, 0, 0, Math.min(end, file.byteLength))
      file = longer
    }
    if (bytes !== null) bytes.copy(file, at)
  }
  return file
}
