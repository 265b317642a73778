import { spawn } from 'node:child_process'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { ParcelError } from '../errors.js'
import type { FileStats } from './file-stats.js'

/** A range of a file, in bytes: one that is allocated, or one that was written. */
export interface Extent {
  start: number
  end: number
}

/**
 * lseek(2) with SEEK_DATA (3) and SEEK_HOLE (4), which Node does not offer. perl is on every
 * Debian and every Mac; it gets the open file as descriptor 3 and the ranges to look at, and the
 * seeks are all that it does.
 */
const SEEK = `
open(my $f, '<&=', 3) or die "$!\\n";
while (<STDIN>) {
  my ($at, $end) = split;
  while ($at < $end) {
    my $data = sysseek($f, $at, 3); last unless defined $data; $data += 0; last if $data >= $end;
    my $hole = sysseek($f, $data, 4); die "$!\\n" unless defined $hole; $hole += 0;
    print "$data ", $hole < $end ? $hole : $end, "\\n"; $at = $hole;
  }
}`

/** A program takes four descriptors and a core: hundreds of them leave none for others. */
const AT_ONCE = 8
let running = 0
const waiting: (() => void)[] = []

/** Whether a file has holes at all; the others need no look at their extents. */
export function isSparse(stats: Pick<FileStats, 'blocks' | 'size'>): boolean {
  return stats.blocks * 512n < stats.size
}

/**
 * What is allocated of an open file, or of some ranges of it (ascending, apart from each other),
 * ascending; holes between. A stream, for a file may have millions. It moves the descriptor's
 * offset: read by position.
 */
export async function* extents(
  fd: number,
  within: Iterable<Extent> = [{ start: 0, end: Number.MAX_SAFE_INTEGER }]
): AsyncGenerator<Extent> {
  await enter()
  try {
    yield* seek(fd, within)
  } finally {
    leave()
  }
}

async function* seek(fd: number, within: Iterable<Extent>): AsyncGenerator<Extent> {
  const child = spawn('perl', ['-e', SEEK], { stdio: ['pipe', 'pipe', 'pipe', fd] })
  // First of all: nothing else comes of a child that cannot be started.
  const ended = new Promise<number | null>((resolve, reject) => {
    child.once('error', reject)
    child.once('close', resolve)
  })
  ended.catch(() => {})
  try {
    // Then it has not even the streams that its type promises.
    if (child.pid === undefined) await ended
    const { stdin, stdout, stderr } = child
    if (stdin === null || stdout === null || stderr === null) throw new Error('asked for pipes')
    // When perl ends early its status tells why.
    pipeline(Readable.from(linesOf(within)), stdin).catch(() => {})
    let complaint = ''
    stderr.setEncoding('utf8').on('data', (text: string) => (complaint += text))
    let rest = ''
    for await (const text of stdout.setEncoding('utf8')) {
      const lines = (rest + String(text)).split('\n')
      rest = lines.pop() ?? ''
      for (const line of lines) {
        const [start, end] = line.split(' ').map(Number)
        if (start !== undefined && end !== undefined) yield { start, end }
      }
    }
    const status = await ended
    if (status !== 0) throw new Error(complaint.trim() || `status ${status}`)
  } catch (error) {
    throw new ParcelError(
      'FAILED',
      'cannot find the holes of a sparse file (perl is needed for it)',
      error
    )
  } finally {
    // It counts as one of the few until it is gone; and what waits on a dead mount hears no other.
    child.kill('SIGKILL')
    await ended.catch(() => {})
  }
}

async function enter(): Promise<void> {
  if (running < AT_ONCE) running++
  else await new Promise<void>((resolve) => waiting.push(resolve))
}

function leave(): void {
  const next = waiting.shift()
  if (next === undefined) running--
  else next()
}

function* linesOf(ranges: Iterable<Extent>): Generator<string> {
  for (const { start, end } of ranges) yield `${start} ${end}\n`
}
