/** Options that a machine file may add, and whether they take a value. */
const OPTIONS = new Map([
  ['-device', true],
  ['-global', true],
  ['-smbios', true],
  ['-boot', true],
  ['-name', true],
  ['-uuid', true],
  ['-no-reboot', false]
])

/** Device models that may be added: emulated whole, migratable, using nothing of the host. */
const DEVICES = new Set([
  'virtio-rng-pci',
  'virtio-balloon-pci',
  'virtio-keyboard-pci',
  'virtio-mouse-pci',
  'virtio-tablet-pci',
  'qemu-xhci',
  'usb-kbd',
  'usb-mouse',
  'usb-tablet',
  'pcie-root-port',
  'i6300esb',
  'pvpanic',
  'vmgenid',
  'isa-debug-exit'
])

const OURS = 'hyperparcel sets it itself'
const DISK = 'list it under "disks"'
const BREAKS = 'a guest started with it cannot be suspended and resumed elsewhere'
const ESCAPES =
  'it reaches outside the machine, which is not for a machine from another host to choose'

/** Why an option that someone is likely to try is not allowed. */
const REASONS: Record<string, string> = {
  ...reason(OURS, '-machine -M -cpu -accel -enable-kvm -m -smp -S -nodefaults -rtc -incoming'),
  ...reason(OURS, '-kernel -initrd -append -bios -pflash -vnc -vga -nographic -monitor -qmp -mon'),
  ...reason(DISK, '-drive -blockdev -hda -hdb -cdrom'),
  ...reason(BREAKS, '-daemonize -snapshot -loadvm -icount -mem-path -no-shutdown'),
  ...reason(
    ESCAPES,
    '-chardev -serial -netdev -nic -net -virtfs -fsdev -object -readconfig -add-fd'
  ),
  ...reason(ESCAPES, '-sandbox -runas -chroot -pidfile -D -spice -fw_cfg -acpitable')
}

/**
 * Checks a machine file's extra arguments. The file comes from another host, so only what is
 * listed above may be added; the named refusals just say why. No allowed option needs a path, so
 * a value with '/' or in JSON (which can spell '/' otherwise) is refused too.
 * Returns the problem as the end of a sentence that begins with the field, or null.
 */
export function argsProblem(args: string[]): string | null {
  for (let i = 0; i < args.length; i++) {
    const option = (args[i] ?? '').replace(/^--/, '-')
    const takesValue = OPTIONS.get(option)
    if (takesValue === undefined) {
      const why = Object.hasOwn(REASONS, option) ? ` (${REASONS[option]})` : ''
      return `must not have ${option}${why}; allowed are ${[...OPTIONS.keys()].join(', ')}`
    }
    if (!takesValue) continue
    const value = args[++i]
    if (value === undefined) return `must have a value after ${option}`
    if (/[/\0]/.test(value) || value.startsWith('{')) {
      return `must not have a path or JSON after ${option}: name the machine's files in their own fields`
    }
    const model = value.split(',')[0] ?? ''
    if (option === '-device' && !DEVICES.has(model)) {
      return `must not have the device ${model}; allowed are ${[...DEVICES].join(', ')}`
    }
  }
  return null
}

function reason(why: string, options: string): Record<string, string> {
  return Object.fromEntries(options.split(' ').map((option) => [option, why]))
}
