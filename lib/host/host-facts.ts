import { access, constants, readFile } from 'node:fs/promises'
import { arch, cpus, platform } from 'node:os'
import { keyedHash } from '../keys/hash.js'
import { NS } from '../keys/namespaces.js'
import { SOFTWARE } from '../software.js'
import { qemuVersion } from '../vmm/qemu-host.js'

/** What a host says of itself to members, by name. */
export type HostFacts = Readonly<Record<string, string>>

/** The most that a value may have: processors have some hundred flags. */
const LONGEST = 4_000

/**
 * What other members are told of this host: its software, monitor, accelerators and processor, and
 * a number that stays the same for one installed system and tells nothing else.
 */
export async function hostFacts(): Promise<HostFacts> {
  const qemu = await qemuVersion().catch(() => null)
  const hasKvm = await access('/dev/kvm', constants.R_OK | constants.W_OK).then(
    () => true,
    () => false
  )
  const machine = await readFile('/etc/machine-id').catch(() => null)
  const flags = /^flags\s*: (.*)$/m.exec(await readFile('/proc/cpuinfo', 'utf8').catch(() => ''))
  return {
    accelerators: hasKvm ? 'kvm tcg' : 'tcg',
    cpu: cpus()[0]?.model ?? '',
    flags: (flags?.[1] ?? '').split(' ').toSorted().join(' ').slice(0, LONGEST),
    machine: machine === null ? '' : keyedHash(NS.machine, machine).toString('hex', 0, 8),
    node: process.version,
    software: SOFTWARE,
    system: `${platform()} ${arch()}`,
    vmm: qemu === null ? '' : `qemu ${qemu.version}`
  }
}

/**
 * Why a host with these facts cannot resume a version with those, in words; empty: it could, as far
 * as facts tell. It looks closer itself when it does.
 */
export function obstacles(version: HostFacts, host: HostFacts): string[] {
  const { vmm = '', accelerator = '' } = version
  const wanted = /^qemu (\d+)\.(\d+)$/.exec(vmm)
  if (wanted === null) return []
  const found: string[] = []
  const here = /^qemu (\d+)\.(\d+)$/.exec(host['vmm'] ?? '')
  if (here === null) found.push('it has no QEMU')
  else if (number(here) < number(wanted))
    found.push(`its ${host['vmm'] ?? ''} is older than ${vmm}`)
  if (!(host['accelerators'] ?? '').split(' ').includes(accelerator)) {
    found.push(`it has no ${accelerator}`)
  }
  return found
}

function number([, major = '0', minor = '0']: RegExpExecArray): number {
  return 1_000 * Number(major) + Number(minor)
}
