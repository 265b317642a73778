/** Numbers of prctl(2) and madvise(2), and the name that the kernel's audit has for the machine. */
const ARCHITECTURES: Partial<Record<NodeJS.Architecture, [number, number, number]>> = {
  x64: [157, 28, 0xc000003e],
  arm64: [167, 233, 0xc00000b7]
}
const MADV_HUGEPAGE = 14
const EINVAL = 22

/** A filter of seccomp(2) in classic BPF: `madvise(…, MADV_HUGEPAGE)` fails, all else is as it was. */
function filter(madvise: number, architecture: number): Buffer {
  const [load, jumpIfEqual, answer] = [0x20, 0x15, 0x06]
  const program: [number, number, number, number][] = [
    [load, 0, 0, 4],
    [jumpIfEqual, 0, 5, architecture],
    [load, 0, 0, 0],
    [jumpIfEqual, 0, 3, madvise],
    [load, 0, 0, 32],
    [jumpIfEqual, 0, 1, MADV_HUGEPAGE],
    [answer, 0, 0, 0x00050000 | EINVAL],
    [answer, 0, 0, 0x7fff0000]
  ]
  const bytes = Buffer.alloc(8 * program.length)
  for (const [n, [code, yes, no, value]] of program.entries()) {
    bytes.writeUInt16LE(code, 8 * n)
    bytes.writeUInt8(yes, 8 * n + 2)
    bytes.writeUInt8(no, 8 * n + 3)
    bytes.writeUInt32LE(value, 8 * n + 4)
  }
  return bytes
}

/** PR_SET_NO_NEW_PRIVS, then PR_SET_SECCOMP with SECCOMP_MODE_FILTER, then the program. */
const INSTALL = `
my ($prctl, $hex, @program) = @ARGV;
my $filter = pack('H*', $hex);
my $fprog = pack('S x6 P', length($filter) / 8, $filter);
syscall($prctl + 0, 38, 1, 0, 0, 0) == 0 and syscall($prctl + 0, 22, 2, $fprog) == 0 or warn "$!";
exec { $program[0] } @program or die "$program[0]: $!\\n";`

/**
 * What to put before QEMU so that it gets no huge pages. It asks for them on guest memory; the kernel
 * then reads megabytes of a mapped file around each page that the guest touches, all of which would
 * have to be fetched. Empty where that is not known to work.
 */
export function withoutHugePages(): string[] {
  const numbers = process.platform === 'linux' ? ARCHITECTURES[process.arch] : undefined
  if (numbers === undefined) return []
  const [prctl, madvise, architecture] = numbers
  return ['perl', '-e', INSTALL, String(prctl), filter(madvise, architecture).toString('hex')]
}
