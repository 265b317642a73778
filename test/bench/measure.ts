import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { text } from 'node:stream/consumers'
import { Readable } from 'node:stream'
import { endWithUs } from './scratch.js'

/** A program to run, from start to end. */
export interface Command {
  argv: readonly [string, ...string[]]
  env?: Record<string, string>
  cwd?: string
}

export interface Cost {
  /** Seconds. */
  wall: number
  /** Seconds of user and system time of the program and all it started and waited for. */
  cpu: number
  /** Bytes; of the largest of these processes. */
  rss: number
  stdout: string
}

/** Number of the system call getrusage. */
const GETRUSAGE: Partial<Record<NodeJS.Architecture, number>> = { x64: 98, arm64: 165 }

/**
 * Node does not say what a child has used, and what it reports of itself ends before it does. So
 * a few lines of perl start the program, wait for it and ask the kernel. Answer on descriptor 3:
 * exit status, seconds of user and system time, KiB.
 */
const WATCH = `
use Time::HiRes 'time';
my $call = shift; my $began = time;
open my $out, '>&=', 3;
my $pid = fork // die $!;
if (!$pid) { close $out; exec { $ARGV[0] } @ARGV; exit 127 }
waitpid $pid, 0; my $status = $?; my $wall = time - $began;
my $usage = "\\0" x 144; syscall($call, -1, $usage) == 0 or die $!;
my ($us, $uu, $ss, $su, $rss) = unpack 'q5', $usage;
printf $out "%d %d %.6f %.6f %d", $status >> 8, $status & 127, $wall, $us + $ss + ($uu + $su) / 1e6, $rss;
`

/** Runs a program and says what it cost. Throws with what it printed when it fails. */
export async function measure({ argv, env = {}, cwd }: Command): Promise<Cost> {
  const call = GETRUSAGE[process.arch]
  if (call === undefined || process.platform !== 'linux') {
    throw new Error('the bench measures on Linux, x64 or arm64')
  }
  const child = spawn('perl', ['-e', WATCH, String(call), ...argv], {
    env: { ...process.env, ...env },
    stdio: ['ignore', 'pipe', 'pipe', 'pipe'],
    detached: true,
    ...(cwd === undefined ? {} : { cwd })
  })
  endWithUs(child)
  const [, out, err, answer] = child.stdio
  const [stdout, stderr, usage] = await Promise.all([
    text(readable(out)),
    text(readable(err)),
    text(readable(answer)),
    once(child, 'exit')
  ])
  const [status = 1, signal = 0, wall = 0, cpu = 0, kib = 0] = usage.split(' ').map(Number)
  if (usage === '' || status !== 0 || signal !== 0) {
    throw new Error(`${argv.join(' ')}: exit ${status}, signal ${signal}\n${stdout}${stderr}`)
  }
  return { wall, cpu, rss: kib * 1_024, stdout }
}

function readable(stream: unknown): Readable {
  if (stream instanceof Readable) return stream
  throw new Error('asked for a pipe')
}
