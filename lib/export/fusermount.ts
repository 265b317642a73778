import { execFile } from 'node:child_process'
import { stat, writeFile } from 'node:fs/promises'
import { promisify } from 'node:util'
import { mounts } from '../mounts.js'
import { MAX_WRITE } from './fuse-protocol.js'

const run = promisify(execFile)
/** So long an unmount may take before it is forced, ms. */
const GENTLE = 10_000

/** In the environment of a program that fusermount has mounted for: the number of its descriptor. */
export const FUSE_FD = 'HYPERPARCEL_FUSE_FD'

/*
 * fusermount3, which may mount for a plain user, sends the opened device over a socket as an
 * SCM_RIGHTS message (man 8 fusermount3, 7 unix), which Node cannot receive. This calls recvmsg(2)
 * itself (47 on x86-64, 212 on arm64) with a msghdr made by hand and then becomes the program that
 * serves. What goes wrong it says on the program's channel to its parent, as the program would.
 */
const RECEIVE = `
use strict; use Socket;
my ($dir, $options, @program) = @ARGV;
my $number = { x86_64 => 47, aarch64 => 212 }->{(split ' ', qx(uname -m))[0]};
$^F = 255;
socketpair(my $ours, my $theirs, AF_UNIX, SOCK_STREAM, PF_UNSPEC) or failed($!);
pipe(my $said, my $says) or failed($!);
my $pid = fork() // failed($!);
if ($pid == 0) {
  open(STDERR, '>&', $says);
  $ENV{_FUSE_COMMFD} = fileno($theirs);
  exec('fusermount3', '-o', $options, '--', $dir) or print STDERR "fusermount3 cannot be started: $!";
  exit 1;
}
close $theirs; close $says;
my ($data, $control) = ("\\0", "\\0" x 24);
my $vector = pack('P Q', $data, 1);
my $message = pack('Q L x4 P Q P Q l x4', 0, 0, $vector, 1, $control, 24, 0);
my $got = defined $number ? syscall($number, fileno($ours), $message, 0) : -1;
my $complaint = join '', <$said>;
waitpid($pid, 0);
my (undef, $level, $type, $fd) = unpack('Q l l l', $control);
failed($complaint || 'fusermount3 gave nothing') if $? != 0 || $got < 1 || $type != 1;
$ENV{${FUSE_FD}} = $fd;
close $ours; close $said;
exec { $program[0] } @program or failed($!);

sub failed {
  my $why = "cannot mount: $_[0]";
  $why =~ s/\\s+$//; $why =~ s/([\\\\"])/\\\\$1/g; $why =~ s/[\\x00-\\x1f]+/ /g;
  if (open(my $parent, '>&=', $ENV{NODE_CHANNEL_FD})) {
    syswrite($parent, qq({"type":"failed","code":"FAILED","message":"$why"}\\n));
  }
  exit 1;
}
`

/** By what a program is started so that a folder is mounted for it; it finds the device by FUSE_FD. */
export function fusermounted(dir: string): [string, ...string[]] {
  const options = [
    'rw',
    'nosuid',
    'nodev',
    'default_permissions',
    'fsname=hyperparcel',
    'subtype=hyperparcel',
    `max_read=${MAX_WRITE}`
  ]
  return ['perl', '-e', RECEIVE, dir, options.join(',')]
}

/** Takes the mount away, gently; false when somebody uses it. */
export async function fuserunmount(dir: string, how: readonly string[] = []): Promise<boolean> {
  return run('fusermount3', ['-u', '-q', ...how, '--', dir], { timeout: GENTLE }).then(
    () => true,
    () => false
  )
}

/**
 * Ends the connection of what is mounted at a folder: whoever waits for an answer gets an error.
 * False where the system does not offer it.
 */
export async function abortConnection(dir: string): Promise<boolean> {
  const minor = (await mounts()).findLast(({ point }) => point === dir)?.minor
  if (minor === undefined) return false
  return writeFile(`/sys/fs/fuse/connections/${minor}/abort`, '1').then(
    () => true,
    () => false
  )
}

/** Takes away what a process had mounted at a folder that is gone: all who look there get an error until then. */
export async function detachDead(dir: string): Promise<void> {
  const isDead = await stat(dir).then(
    () => false,
    (error: unknown) => error instanceof Error && 'code' in error && error.code === 'ENOTCONN'
  )
  if (!isDead) return
  const [command, ...how] =
    process.getuid?.() === 0 ? ['umount', '-i', '-l'] : ['fusermount3', '-u', '-z', '-q']
  await run(command ?? '', [...how, '--', dir]).catch(() => {})
}
