import { spawn } from 'node:child_process'
import type { BigIntStats } from 'node:fs'
import { ParcelError } from '../errors.js'

/** A range of a file that is allocated, in bytes. */
export interface Extent {
  start: number
  end: number
}

/**
 * lseek(2) with SEEK_DATA (3) and SEEK_HOLE (4), which Node does not offer. perl is on every
 * Debian and every Mac; it gets the open file as descriptor 3 and the seeks are all that it does.
 */
const SEEK = `
open(my $f, '<&=', 3) or die "$!\\n";
my ($at, $size) = (0, -s $f);
while ($at < $size) {
  my $data = sysseek($f, $at, 3); last unless defined $data; $data += 0;
  my $hole = sysseek($f, $data, 4); die "$!\\n" unless defined $hole;
  print "$data $hole\\n"; $at = $hole + 0;
}`

/** Whether a file has holes at all; the others need no look at their extents. */
export function isSparse(stats: Pick<BigIntStats, 'blocks' | 'size'>): boolean {
  return stats.blocks * 512n < stats.size
}

/**
 * The allocated ranges of an open file, ascending; holes between them. A stream, for a file may
 * have millions. It moves the descriptor's offset: read by position.
 */
export async function* extents(fd: number): AsyncGenerator<Extent> {
  const child = spawn('perl', ['-e', SEEK], { stdio: ['ignore', 'pipe', 'pipe', fd] })
  const { stdout, stderr } = child
  if (stdout === null || stderr === null) throw new Error('asked for pipes')
  let complaint = ''
  stderr.setEncoding('utf8').on('data', (text: string) => (complaint += text))
  const ended = new Promise<number | null>((resolve, reject) => {
    child.once('error', reject)
    child.once('close', resolve)
  })
  ended.catch(() => {})
  let rest = ''
  try {
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
    child.kill()
  }
}
