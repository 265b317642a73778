import { execFile } from 'node:child_process'
import { access, constants } from 'node:fs/promises'
import { promisify } from 'node:util'
import { namespaceOf, noFuse, noNamespace } from '../vmm/namespace.js'
import { qemuVersion, tryMachine } from '../vmm/qemu-host.js'
import { QEMU } from '../vmm/qemu-process.js'

const run = promisify(execFile)
const LIMIT = 10_000

/** One thing that this host has or lacks. */
export interface Finding {
  name: 'fuse' | 'namespaces' | 'perl' | 'bwrap' | 'qemu' | 'kvm'
  isUsable: boolean
  /** What was found. */
  found: string
  /** What will happen because of it, and what to do about it; null when all is well. */
  consequence: string | null
}

/** Looks at what machines need on this host. Changes nothing. */
export async function examine(): Promise<Finding[]> {
  return Promise.all([fuse(), namespaces(), perl(), bwrap(), qemu(), kvm()])
}

async function fuse(): Promise<Finding> {
  const obstacle = noFuse()
  return {
    name: 'fuse',
    isUsable: obstacle === null,
    found: obstacle ?? '/dev/fuse can be opened',
    consequence:
      obstacle === null
        ? null
        : "QEMU machines fetch their memory before they start, and only their disks as they are wanted; there is no 'mount'; v86 machines and 'nbd' do without"
  }
}

async function namespaces(): Promise<Finding> {
  const why = await noNamespace()
  return {
    name: 'namespaces',
    isUsable: why === null,
    found: why ?? `'${namespaceOf().join(' ')}' works`,
    consequence:
      why === null
        ? null
        : 'what a machine mounts cannot be kept to itself, so QEMU machines fetch their memory before they start: allow user namespaces (sysctl kernel.unprivileged_userns_clone, user.max_user_namespaces)'
  }
}

async function perl(): Promise<Finding> {
  const why = await complaint('perl', ['-e', '1'])
  return {
    name: 'perl',
    isUsable: why === null,
    found: why ?? 'perl is there',
    consequence:
      why === null
        ? null
        : 'the holes of sparse files cannot be found, QEMU not be kept from huge pages, and only root can mount: install perl'
  }
}

async function bwrap(): Promise<Finding> {
  const why = await complaint('bwrap', ['--version'])
  return {
    name: 'bwrap',
    isUsable: why === null,
    found: why === null ? 'bwrap is there, and not needed' : 'bwrap is not there, and not needed',
    consequence: null
  }
}

async function qemu(): Promise<Finding> {
  const host = await qemuVersion().catch(() => null)
  return {
    name: 'qemu',
    isUsable: host !== null,
    found: host === null ? 'there is no qemu-system-x86_64' : `QEMU ${host.fullVersion}`,
    consequence: host === null ? 'only v86 machines and folders: install QEMU for others' : null
  }
}

async function kvm(): Promise<Finding> {
  const canOpen = await access('/dev/kvm', constants.R_OK | constants.W_OK).then(
    () => true,
    () => false
  )
  const host = await qemuVersion().catch(() => null)
  let found = canOpen ? '/dev/kvm can be opened' : '/dev/kvm cannot be opened'
  let isUsable = canOpen && host !== null
  if (isUsable) {
    const refusal = await tryMachine(QEMU, 'q35', 'kvm64', 'kvm')
    found = refusal ?? 'QEMU starts machines with it; whether guests run was not tried'
    isUsable = refusal === null
  }
  return {
    name: 'kvm',
    isUsable,
    found,
    consequence: isUsable
      ? null
      : 'guests run in TCG, many times slower; machines with "accelerator": "kvm" are refused'
  }
}

/** Why a program does not do what it is asked, in one line; null when it does. */
async function complaint(program: string, args: readonly string[]): Promise<string | null> {
  try {
    await run(program, args, { timeout: LIMIT })
    return null
  } catch (error) {
    const text = error instanceof Error ? error.message : String(error)
    return text.trim().split('\n').at(-1) ?? text
  }
}
