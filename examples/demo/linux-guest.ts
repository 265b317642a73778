import { spawnSync } from 'node:child_process'
import { createCipheriv } from 'node:crypto'
import { accessSync, constants, readdirSync, readFileSync } from 'node:fs'
import { copyFile, cp, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'

interface GuestOptions {
  /** As in the machine file, for example '128M'. */
  memory: string
  diskMiB: number
  /** Text that is on the disk as the file `marker`, and in the guest's memory from boot on. */
  marker: string
  /** MiB of `data.bin`; default half of the disk. */
  dataMiB?: number
  /** A folder whose contents go onto the disk too, as `files`. */
  files?: string
  /** Boots from a disk of its own, as most machines do, not by QEMU: needs `syslinux` and `mtools`. */
  bootDisk?: boolean
}

/** In the order in which they need each other. */
const MODULES = [
  'virtio/virtio_ring',
  'virtio/virtio',
  'virtio/virtio_pci_modern_dev',
  'virtio/virtio_pci_legacy_dev',
  'virtio/virtio_pci',
  'block/virtio_blk'
]

/**
 * What the guest does: it says `guest up` once, then `tick N uptime U` five times a second, N being
 * a shell variable and so in RAM. A line on the console is a command:
 *   sum         → `sum <sha256 of /disk/data.bin>`
 *   read PATH   → `read <sha256 of /disk/PATH>`
 *   uptime      → `uptime <seconds since boot>`
 *   write TEXT  → appends a line to /disk/notes and syncs: `wrote TEXT`
 *   notes       → `notes <all lines of /disk/notes, on one line>`
 *   marker TEXT → keeps TEXT in RAM; with or without it: `marker <what is kept>`
 *   fill N      → N MiB of random bytes into RAM: `filled N`
 *   spin N      → counts to N: `spun <hundredths of a second by its own clock>`
 *   off         → switches the machine off
 */
const INIT = `#!/bin/sh
mount -t proc proc /proc
mount -t devtmpfs dev /dev
mount -t tmpfs ram /ram
for module in ${MODULES.map((path) => path.split('/')[1]).join(' ')}; do
  insmod /modules/$module.ko || echo "no $module"
done
mount -t ext4 /dev/vda /disk 2> /dev/null || mount -t ext4 /dev/vdb /disk || echo "no disk"
cp /disk/marker /ram/marker
stty -echo
echo "guest up"
tick() {
  n=0
  while true; do
    n=$((n + 1))
    read -r up idle < /proc/uptime
    echo "tick $n uptime $up"
    sleep 0.2
  done
}
tick &
while read -r command rest; do
  case "$command" in
    sum) set -- $(sha256sum /disk/data.bin); echo "sum $1" ;;
    read) set -- $(sha256sum "/disk/$rest"); echo "read $1" ;;
    zip) set -- $(gzip -c "/disk/$rest" | sha256sum); echo "zip $1" ;;
    uptime) read -r up idle < /proc/uptime; echo "uptime $up" ;;
    write) echo "$rest" >> /disk/notes; sync; echo "wrote $rest" ;;
    notes) echo notes $(cat /disk/notes) ;;
    marker) [ -z "$rest" ] || echo "$rest" > /ram/marker; echo "marker $(cat /ram/marker)" ;;
    fill) dd if=/dev/urandom of=/ram/fill bs=1M count=$rest 2> /dev/null; echo "filled $rest" ;;
    spin)
      read -r from idle < /proc/uptime
      i=0; while [ $i -lt $rest ]; do i=$((i + 1)); done
      read -r up idle < /proc/uptime
      echo "spun $(((\${up%.*} - \${from%.*}) * 100 + 1\${up#*.} - 1\${from#*.}))" ;;
    off) poweroff -f ;;
    *) echo "unknown $command" ;;
  esac
done
`

const APPEND = 'console=ttyS0 quiet panic=-1'
const APPLETS = 'sh mount insmod cp cat stty echo sha256sum sleep sync dd poweroff'.split(' ')
const DISK_UUID = '6f70617a-6365-4c00-8000-000000000001'
const FIXED_TIME = '1700000000'

/**
 * Makes a folder that is a QEMU parcel, from the packages of this host alone: a Linux kernel, an
 * initramfs, a disk with `marker` and `data.bin` (half of the disk, bytes that do not compress and
 * are the same each time), and the machine file: one CPU, TCG, no network, no screen.
 * The guest is up after 4 to 6 seconds. Call `missingForQemu` first.
 */
export async function buildGuest(dir: string, options: GuestOptions): Promise<void> {
  await mkdir(dir, { recursive: true })
  const kernel = newestKernel()
  if (kernel === null) throw new Error('missingForQemu says that there is a kernel')
  await copyFile(kernel.path, join(dir, 'vmlinuz'))
  await writeFile(join(dir, 'initramfs'), await initramfs(kernel.modules))
  await buildDisk(join(dir, 'disk.img'), options)
  const disks = [{ file: 'disk.img', format: 'raw' }]
  const isOwn = options.bootDisk === true
  // The BIOS looks at the first disk alone.
  if (isOwn) disks.unshift({ file: await buildBootDisk(dir), format: 'raw' })
  const machine = {
    vmm: 'qemu',
    machine: 'pc-q35-7.2',
    cpu: 'qemu64-v1',
    accelerator: 'tcg',
    memory: options.memory,
    smp: 1,
    disks,
    ...(isOwn ? {} : { kernel: 'vmlinuz', initrd: 'initramfs', append: APPEND }),
    network: 'none',
    display: 'none'
  }
  await writeFile(join(dir, 'machine.json'), JSON.stringify(machine, null, 2) + '\n')
}

/** Why QEMU guests cannot be tested on this machine, in one line; null when they can. */
export function missingForQemu(): string | null {
  if (find('qemu-system-x86_64') === null) return 'no QEMU: apt install qemu-system-x86'
  if (find('mke2fs') === null) return 'no mke2fs: apt install e2fsprogs'
  const busybox = find('busybox')
  if (busybox === null || readFileSync(busybox).includes('/ld-linux')) {
    return 'no static busybox: apt install busybox-static'
  }
  const kernel = newestKernel()
  if (kernel === null) return 'no kernel for a guest: apt install linux-image-cloud-amd64'
  const files = [kernel.path, ...MODULES.map((path) => join(kernel.modules, `${path}.ko`))]
  const unreadable = files.find((path) => !isReadable(path))
  return unreadable === undefined ? null : `cannot read ${unreadable}`
}

async function initramfs(modules: string): Promise<Buffer> {
  const busybox = find('busybox')
  if (busybox === null) throw new Error('missingForQemu says that there is a busybox')
  const folders = ['bin', 'dev', 'disk', 'modules', 'proc', 'ram']
  const entries = folders.map((name) => newcEntry({ name, mode: 0o40755 }))
  // The kernel gives init its console before anything is mounted on /dev.
  entries.push(newcEntry({ name: 'dev/console', mode: 0o20600, device: [5, 1] }))
  entries.push(newcEntry({ name: 'init', mode: 0o100755, data: Buffer.from(INIT) }))
  entries.push(newcEntry({ name: 'bin/busybox', mode: 0o100755, data: await readFile(busybox) }))
  for (const applet of APPLETS) {
    entries.push(newcEntry({ name: `bin/${applet}`, mode: 0o120777, data: Buffer.from('busybox') }))
  }
  for (const path of MODULES) {
    const name = `modules/${path.split('/')[1]}.ko`
    const data = await readFile(join(modules, `${path}.ko`))
    entries.push(newcEntry({ name, mode: 0o100644, data }))
  }
  entries.push(newcEntry({ name: 'TRAILER!!!', mode: 0 }))
  return Buffer.concat(entries)
}

interface NewcEntry {
  name: string
  /** File type and permissions, as in stat. */
  mode: number
  data?: Buffer
  /** Major and minor number of a device node. */
  device?: [number, number]
}

/** Format: Documentation/driver-api/early-userspace/buffer-format.rst in the kernel's source. */
function newcEntry({ name, mode, data = Buffer.alloc(0), device = [0, 0] }: NewcEntry): Buffer {
  const [inode, uid, gid, links, mtime, major, minor, check] = [0, 0, 0, 1, 0, 0, 0, 0]
  const nameSize = Buffer.byteLength(name) + 1
  const header = [inode, mode, uid, gid, links, mtime, data.length, major, minor, ...device]
    .concat(nameSize, check)
    .map((field) => field.toString(16).padStart(8, '0'))
    .join('')
  return Buffer.concat([padded(Buffer.from(`070701${header}${name}\0`)), padded(data)])
}

function padded(bytes: Buffer): Buffer {
  return Buffer.concat([bytes, Buffer.alloc((4 - (bytes.length % 4)) % 4)])
}

/** A FAT disk that boots the folder's kernel, which moves onto it. */
async function buildBootDisk(dir: string): Promise<string> {
  const image = join(dir, 'boot.img')
  await writeFile(
    join(dir, 'syslinux.cfg'),
    `DEFAULT l\nLABEL l\nKERNEL vmlinuz\nAPPEND ${APPEND} initrd=initrd\n`
  )
  const steps: [string, ...string[]][] = [
    ['mformat', '-C', '-i', image, '-h', '64', '-s', '32', '-t', '64', '::'],
    ['syslinux', '--install', image],
    ['mcopy', '-i', image, join(dir, 'vmlinuz'), '::vmlinuz'],
    ['mcopy', '-i', image, join(dir, 'initramfs'), '::initrd'],
    ['mcopy', '-i', image, join(dir, 'syslinux.cfg'), '::syslinux.cfg']
  ]
  for (const [program, ...args] of steps) {
    const made = spawnSync(program, args, { encoding: 'utf8' })
    if (made.status !== 0) throw new Error(`${program} failed: ${made.stderr}`)
  }
  for (const name of ['vmlinuz', 'initramfs', 'syslinux.cfg']) await rm(join(dir, name))
  return 'boot.img'
}

async function buildDisk(
  path: string,
  { diskMiB, marker, dataMiB = diskMiB / 2, files }: GuestOptions
): Promise<void> {
  const content = await mkdtemp(join(tmpdir(), 'hyperparcel-guest-'))
  try {
    await writeFile(join(content, 'marker'), marker + '\n')
    const cipher = createCipheriv('aes-128-ctr', Buffer.alloc(16), Buffer.alloc(16))
    await writeFile(join(content, 'data.bin'), cipher.update(Buffer.alloc(dataMiB * 2 ** 20)))
    if (files !== undefined) await cp(files, join(content, 'files'), { recursive: true })
    const features = ['-t', 'ext4', '-U', DISK_UUID, '-E', `hash_seed=${DISK_UUID},root_owner=0:0`]
    const made = spawnSync(
      find('mke2fs') ?? 'mke2fs',
      ['-q', '-F', ...features, '-d', content, path, `${diskMiB}M`],
      { env: { ...process.env, E2FSPROGS_FAKE_TIME: FIXED_TIME }, encoding: 'utf8' }
    )
    if (made.status !== 0) throw new Error(`mke2fs failed: ${made.stderr}`)
  } finally {
    await rm(content, { recursive: true })
  }
}

function newestKernel(): { path: string; modules: string } | null {
  const prefix = 'vmlinuz-'
  const newest = readdirSync('/boot')
    .filter((name) => name.startsWith(prefix) && name.endsWith('-cloud-amd64'))
    .toSorted((a, b) => a.localeCompare(b, 'en', { numeric: true }))
    .at(-1)
  if (newest === undefined) return null
  const modules = `/lib/modules/${newest.slice(prefix.length)}/kernel/drivers`
  return { path: join('/boot', newest), modules }
}

/** mke2fs is in a folder that a plain user's PATH often lacks. */
function find(program: string): string | null {
  const folders = [...(process.env.PATH ?? '').split(delimiter), '/usr/sbin', '/sbin']
  return folders.map((folder) => join(folder, program)).find(isReadable) ?? null
}

function isReadable(path: string): boolean {
  try {
    accessSync(path, constants.R_OK)
    return true
  } catch {
    return false
  }
}
