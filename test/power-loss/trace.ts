import { readdir, readFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'

/** What a program did to the files below a folder, and what it said, in the order in which it was done. */
export type Event = { began: number } & (
  | { kind: 'open'; fd: number; path: string; isNew: boolean; isCut: boolean; isAtEnd: boolean }
  /** `at` null: where the descriptor stands. */
  | { kind: 'write'; fd: number; bytes: Buffer; at: number | null }
  | { kind: 'truncate'; fd: number; length: number }
  | { kind: 'sync'; fd: number }
  | { kind: 'rename'; from: string; to: string }
  | { kind: 'unlink'; path: string }
  | { kind: 'mkdir'; path: string }
  | { kind: 'said'; text: string }
)

/** Calls that change files, or say that something is durable. */
export const CALLS = [
  'open,openat,creat,write,pwrite64,writev,pwritev,pwritev2,ftruncate,truncate',
  'fsync,fdatasync,sync_file_range,syncfs,rename,renameat,renameat2,unlink,unlinkat',
  'mkdir,mkdirat,rmdir,link,linkat,symlink,symlinkat,copy_file_range,sendfile,lseek'
].join(',')

const LINE = /^(\d+\.\d+) (\w+)\((.*)\) += (-?\d+)(?:<([^>]*)>)?.*<(\d+\.\d+)>$/s
const FD = /^(\d+)<([^>]*)>/
const ignored = new Set(['sync_file_range', 'lseek'])

/** Reads what `strace -ff -y -ttt -T -xx` has written, one file for each thread. */
export async function readTrace(dir: string, root: string): Promise<Event[]> {
  const found: { ended: number; event: Event }[] = []
  for (const name of await readdir(dir)) {
    for (const line of (await readFile(join(dir, name), 'latin1')).split('\n')) {
      const parts = LINE.exec(line)
      if (parts === null) continue
      const [, time = '', call = '', args = '', result = '', opened = '', took = ''] = parts
      if (Number(result) < 0) continue
      const began = Number(time)
      const event = eventOf(call, args, Number(result), unhex(opened).toString(), root)
      if (event !== null) found.push({ ended: began + Number(took), event: { began, ...event } })
    }
  }
  return found.toSorted((a, b) => a.ended - b.ended).map(({ event }) => event)
}

type Bare = Event extends infer E ? (E extends Event ? Omit<E, 'began'> : never) : never

/** null: it is of no other file than `root`'s, or changes nothing. */
function eventOf(
  call: string,
  args: string,
  result: number,
  opened: string,
  root: string
): Bare | null {
  const isOurs = (path: string): boolean => path === root || path.startsWith(`${root}/`)
  const texts = [...args.matchAll(/"((?:\\x[\da-f]{2})*)"/g)].map(([, text = '']) => unhex(text))
  const at = FD.exec(args)
  const fd = Number(at?.[1] ?? -1)
  const file = unhex(at?.[2] ?? '').toString()
  const numbers = args
    .split(', ')
    .slice(-2)
    .map((text) => Number(text))
  if (call === 'write' && fd === 1) return { kind: 'said', text: String(texts[0]) }
  if (call === 'open' || call === 'openat' || call === 'creat') {
    if (!isOurs(opened)) return null
    const has = (flag: string): boolean => args.includes(flag)
    const isWritten = has('O_WRONLY') || has('O_RDWR')
    const isNew = has('O_CREAT')
    const isCut = isWritten && has('O_TRUNC')
    return { kind: 'open', fd: result, path: opened, isNew, isCut, isAtEnd: has('O_APPEND') }
  }
  if (texts.length > 0 && !call.includes('write')) {
    const paths = pathsOf(args)
    const [from = '', to = ''] = paths
    if (!paths.some((path) => isOurs(path))) return null
    if (call.startsWith('rename')) return { kind: 'rename', from, to }
    if (call.startsWith('unlink') || call === 'rmdir') return { kind: 'unlink', path: from }
    if (call.startsWith('mkdir')) return { kind: 'mkdir', path: from }
    throw new Error(`nothing is known of ${call}`)
  }
  if (!isOurs(file) || ignored.has(call)) return null
  if (call === 'write') return { kind: 'write', fd, bytes: texts[0] ?? Buffer.alloc(0), at: null }
  if (call === 'pwrite64') {
    return { kind: 'write', fd, bytes: texts[0] ?? Buffer.alloc(0), at: numbers[1] ?? 0 }
  }
  if (call === 'writev') return { kind: 'write', fd, bytes: Buffer.concat(texts), at: null }
  if (call === 'pwritev') {
    return { kind: 'write', fd, bytes: Buffer.concat(texts), at: numbers[1] ?? 0 }
  }
  if (call === 'ftruncate') return { kind: 'truncate', fd, length: numbers[1] ?? 0 }
  if (call === 'fsync' || call === 'fdatasync' || call === 'syncfs') return { kind: 'sync', fd }
  throw new Error(`nothing is known of ${call}`)
}

/** Paths among the arguments of a call, absolute, each in the folder that stands before it. */
function pathsOf(args: string): string[] {
  const found = args.matchAll(/(?:(?:AT_FDCWD|\d+)<([^>]*)>, )?"((?:\\x[\da-f]{2})*)"/g)
  return [...found].map(([, dir = '', path = '']) =>
    resolve(unhex(dir).toString() || '/', unhex(path).toString())
  )
}

function unhex(text: string): Buffer {
  return Buffer.from(text.replaceAll('\\x', ''), 'hex')
}
