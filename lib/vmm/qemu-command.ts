import { fileOf, type MachineFolder } from './machine-folder.js'
import type { Disk, MachineSpec } from './qemu-machine.js'
import { CONSOLE_FD, MONITOR_FD } from './qemu-process.js'

/** The screen's socket and the pid file, within the folder that QEMU runs in. */
export const VNC_SOCKET = 'vnc.sock'
const PID_FILE = 'qemu.pid'

/** The emulated devices, by the field of the machine file that asks for them; part of the facts. */
export const NETWORK_DEVICE = 'virtio-net-pci'
export const DISPLAY_DEVICE = 'VGA'

/** A guest that breaks out of QEMU's devices can start no program and change no user or limit. */
const SANDBOX = 'on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny'

/** PCI slots. QEMU gives those of `args` the lowest free ones, before it comes to ours. */
const VIDEO_SLOT = 0x10
const NETWORK_SLOT = 0x11
const DISK_SLOT = 0x12

interface CommandOptions {
  folder: MachineFolder
  /** Absolute path of the file that is the guest's memory, of the machine's size. */
  memoryFile: string
  /** true: wait for a device state on the monitor before anything runs. */
  resume: boolean
}

/**
 * QEMU's arguments for a machine. A resume needs the very same machine as the suspend, so nothing
 * is left to QEMU's defaults, which change between releases: versioned machine, named CPU, and an
 * id and a PCI address for each device. `enforce` makes QEMU refuse a CPU model that this host
 * cannot give whole, where it would otherwise drop features in silence. File names go in JSON,
 * where neither a comma nor a "host:" prefix means anything. QEMU starts stopped (`-S`).
 */
export function qemuArgs(spec: MachineSpec, options: CommandOptions): string[] {
  return [
    '-nodefaults',
    '-no-user-config',
    '-S',
    ...option('-pidfile', PID_FILE),
    ...option('-sandbox', SANDBOX),
    ...option('-machine', machineValue(spec)),
    ...option('-accel', spec.accelerator),
    ...option('-cpu', `${spec.cpu},enforce`),
    ...option('-smp', `cpus=${spec.smp},sockets=1,cores=${spec.smp},threads=1`),
    ...option('-m', `size=${spec.memory / 2 ** 20}M`),
    // Shared, so that the file is the guest's memory and x-ignore-shared leaves it out of the state.
    ...option('-object', {
      'qom-type': 'memory-backend-file',
      id: 'memory',
      size: spec.memory,
      'mem-path': options.memoryFile,
      share: true
    }),
    ...option('-rtc', 'base=utc,clock=vm'),
    ...option('-chardev', `socket,id=monitor,fd=${MONITOR_FD}`),
    ...option('-mon', 'chardev=monitor,mode=control'),
    ...option('-chardev', `socket,id=console,fd=${CONSOLE_FD}`),
    ...option('-device', { driver: 'isa-serial', id: 'serial0', index: 0, chardev: 'console' }),
    ...displayArgs(spec),
    ...networkArgs(spec),
    ...spec.disks.flatMap((disk, index) => diskArgs(spec, disk, index, options.folder)),
    ...flashArgs(spec, options.folder),
    ...kernelArgs(spec, options.folder),
    ...(options.resume ? option('-incoming', 'defer') : []),
    ...(spec.args ?? [])
  ]
}

function machineValue(spec: MachineSpec): string {
  const flash = spec.firmware === undefined ? '' : ',pflash0=firmware'
  const nvram = spec.nvram === undefined ? '' : ',pflash1=nvram'
  return `${spec.machine},memory-backend=memory,dump-guest-core=off${flash}${nvram}`
}

function displayArgs(spec: MachineSpec): string[] {
  const noWindow = option('-display', 'none')
  if (spec.display === 'none') return noWindow
  return [
    ...noWindow,
    ...option('-vnc', `unix:${VNC_SOCKET}`),
    ...option('-device', { driver: DISPLAY_DEVICE, id: 'video0', ...slot(spec, VIDEO_SLOT) })
  ]
}

/**
 * The guest reaches out through QEMU's own NAT, as this user, this host's loopback included (as
 * 10.0.2.2); nothing reaches in. Without a boot ROM: its size differs between distributions, and a
 * resume compares it.
 */
function networkArgs(spec: MachineSpec): string[] {
  if (spec.network === 'none') return []
  const mac = '52:54:00:12:34:56'
  return [
    ...option('-netdev', 'user,id=net0'),
    ...option('-device', {
      driver: NETWORK_DEVICE,
      id: 'nic0',
      netdev: 'net0',
      mac,
      romfile: '',
      ...slot(spec, NETWORK_SLOT)
    })
  ]
}

function diskArgs(spec: MachineSpec, disk: Disk, index: number, folder: MachineFolder): string[] {
  const name = `disk${index}`
  const readonly = disk.readonly ?? false
  return [
    ...option('-blockdev', {
      driver: disk.format,
      'node-name': name,
      'read-only': readonly,
      discard: 'unmap',
      file: { ...imageOf(folder, disk.file), 'read-only': readonly, discard: 'unmap' }
    }),
    // A kernel of the machine file boots before any disk; its boot index is 0.
    ...option('-device', {
      driver: 'virtio-blk-pci',
      id: `virtio-${name}`,
      drive: name,
      bootindex: index + 1,
      ...slot(spec, DISK_SLOT + index)
    })
  ]
}

/** A file, or a block device that our own server has. */
function imageOf(folder: MachineFolder, file: string): Record<string, unknown> {
  const { images } = folder
  if (images === null || images.nbd === null || !images.files.has(file)) {
    return { driver: 'file', filename: fileOf(folder, file) }
  }
  return { driver: 'nbd', server: { type: 'unix', path: images.nbd }, export: file }
}

function flashArgs(spec: MachineSpec, folder: MachineFolder): string[] {
  const flash = (name: string, file: string | undefined, readonly: boolean): string[] =>
    file === undefined
      ? []
      : option('-blockdev', {
          driver: 'raw',
          'node-name': name,
          'read-only': readonly,
          file: { driver: 'file', filename: fileOf(folder, file), 'read-only': readonly }
        })
  return [...flash('firmware', spec.firmware, true), ...flash('nvram', spec.nvram, false)]
}

function kernelArgs(spec: MachineSpec, folder: MachineFolder): string[] {
  return [
    ...(spec.kernel === undefined ? [] : option('-kernel', fileOf(folder, spec.kernel))),
    ...(spec.initrd === undefined ? [] : option('-initrd', fileOf(folder, spec.initrd))),
    ...(spec.append === undefined ? [] : option('-append', spec.append))
  ]
}

function slot(spec: MachineSpec, number: number): { bus: string; addr: string } {
  const bus = spec.machine.startsWith('pc-q35') ? 'pcie.0' : 'pci.0'
  return { bus, addr: `0x${number.toString(16)}` }
}

function option(name: string, value: string | Record<string, unknown>): string[] {
  return [name, typeof value === 'string' ? value : JSON.stringify(value)]
}
