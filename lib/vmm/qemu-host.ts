import { execFile } from 'node:child_process'
import { access, constants } from 'node:fs/promises'
import { promisify } from 'node:util'
import { ParcelError } from '../errors.js'
import type { Facts, Mismatch } from './driver.js'
import { INSTALL_QEMU, QEMU } from './qemu-process.js'

/** What the QEMU of this host offers. */
interface QemuHost {
  /** For example '7.2'. */
  version: string
  /** As QEMU prints it, for example '7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)'. */
  fullVersion: string
  machines: ReadonlySet<string>
  cpus: ReadonlySet<string>
}

const run = promisify(execFile)
const TRIAL_LIMIT_MS = 20_000
const hosts = new Map<string, Promise<QemuHost | null>>()
/** Machines that were tried, with success, in this process. */
const works = new Set<string>()

/** Asks the installed QEMU what it offers, once a process and program; null when there is none. */
export function qemuHost(program = QEMU): Promise<QemuHost | null> {
  const known = hosts.get(program)
  if (known !== undefined) return known
  const asked = ask(program)
  hosts.set(program, asked)
  const forget = (): boolean => hosts.delete(program)
  // One that is not there may be installed while a daemon runs.
  asked.then((host) => host === null && forget(), forget)
  return asked
}

/**
 * Compares a version's facts with this host. Beyond the lists, it starts a paused machine of that
 * type, CPU and accelerator for an instant: only that shows whether KVM works here and whether
 * this processor has every feature of the CPU model. Facts come from another host, so none is put
 * on a command line before it was found in QEMU's own lists.
 */
export async function hostMismatches(facts: Facts, program = QEMU): Promise<Mismatch[]> {
  const { vmm = '', machine = '', cpu = '', accelerator = '' } = facts
  const host = await qemuHost(program)
  if (host === null) return [{ fact: 'vmm', wanted: vmm, here: '', advice: INSTALL_QEMU }]

  const found: Mismatch[] = []
  if (isOlder(host.version, vmm)) {
    found.push({
      fact: 'vmm',
      wanted: vmm,
      here: `qemu ${host.version}`,
      advice: `install ${vmm} or newer: an older QEMU cannot be relied on to read a newer one's state`
    })
  }
  if (!host.machines.has(machine)) {
    found.push({
      fact: 'machine',
      wanted: machine,
      here: '',
      advice: `install a QEMU that has the machine type ${machine} (see ${QEMU} -machine help); this is ${host.version}`
    })
  }
  if (!host.cpus.has(cpu)) {
    found.push({
      fact: 'cpu',
      wanted: cpu,
      here: '',
      advice: `install a QEMU that has the CPU model ${cpu} (see ${QEMU} -cpu help); this is ${host.version}`
    })
  }
  if (accelerator === 'kvm') found.push(...(await kvmMismatch()))
  else if (accelerator !== 'tcg') {
    found.push({
      fact: 'accelerator',
      wanted: accelerator,
      here: 'tcg, kvm',
      advice: 'resume it where it was suspended, with a newer hyperparcel'
    })
  }
  if (found.length > 0) return found
  const tried = [program, host.fullVersion, machine, cpu, accelerator].join(' ')
  if (works.has(tried)) return []
  const refusal = await tryMachine(program, machine, cpu, accelerator)
  if (refusal === null) works.add(tried)
  if (refusal === null) return []
  return [trialMismatch(facts, refusal)]
}

/** The installed QEMU's version, short and as it prints it; null when there is none. */
export async function qemuVersion(
  program = QEMU
): Promise<Pick<QemuHost, 'version' | 'fullVersion'> | null> {
  const text = await run(program, ['--version']).then(
    ({ stdout }) => stdout,
    (error: unknown) => {
      const code = error instanceof Error && 'code' in error ? error.code : null
      // EACCES: not found either, and a folder of PATH could not be searched.
      if (code === 'ENOENT' || code === 'EACCES') return null
      throw new ParcelError('VMM_FAILED', `${program} is installed and does not work`, error)
    }
  )
  if (text === null) return null
  const [, fullVersion, version] = /version ((\d+\.\d+)[^\n]*)/.exec(text) ?? []
  return version === undefined || fullVersion === undefined ? null : { version, fullVersion }
}

async function ask(program: string): Promise<QemuHost | null> {
  const [known, machines, cpus] = await Promise.allSettled([
    qemuVersion(program),
    run(program, ['-machine', 'help']),
    run(program, ['-cpu', 'help'])
  ])
  if (known.status === 'rejected') throw known.reason
  if (known.value === null) return null
  if (machines.status === 'rejected') throw machines.reason
  if (cpus.status === 'rejected') throw cpus.reason
  return {
    ...known.value,
    machines: firstWords(machines.value.stdout, /^(\S+)/gm),
    cpus: firstWords(cpus.value.stdout, /^(?:x86| ) *(\S+)/gm)
  }
}

function firstWords(text: string, pattern: RegExp): Set<string> {
  return new Set([...text.matchAll(pattern)].map((match) => match[1] ?? ''))
}

function isOlder(here: string, wanted: string): boolean {
  const [, major = '0', minor = '0'] = /^qemu (\d+)\.(\d+)$/.exec(wanted) ?? []
  const [hereMajor = 0, hereMinor = 0] = here.split('.').map(Number)
  return hereMajor < Number(major) || (hereMajor === Number(major) && hereMinor < Number(minor))
}

async function kvmMismatch(): Promise<Mismatch[]> {
  const code = await access('/dev/kvm', constants.R_OK | constants.W_OK).then(
    () => null,
    (error: unknown) => (error instanceof Error && 'code' in error ? error.code : 'unknown')
  )
  if (code === null) return []
  const advice =
    code === 'ENOENT'
      ? 'turn on virtualisation in the firmware and load kvm_intel or kvm_amd; there is no /dev/kvm'
      : 'let yourself use /dev/kvm: sudo usermod -aG kvm $USER, then log in again'
  return [{ fact: 'accelerator', wanted: 'kvm', here: '', advice }]
}

/** Returns QEMU's words when it cannot make such a machine. */
export async function tryMachine(
  program: string,
  machine: string,
  cpu: string,
  accelerator: string
): Promise<string | null> {
  const args = ['-nodefaults', '-no-user-config', '-display', 'none', '-S', '-m', '16M']
  args.push('-machine', machine, '-cpu', `${cpu},enforce`, '-accel', accelerator)
  args.push('-monitor', 'stdio')
  return new Promise((resolve) => {
    const child = execFile(program, args, { timeout: TRIAL_LIMIT_MS }, (error, _, stderr) => {
      if (error === null) resolve(null)
      else
        resolve(
          stderr
            .trim()
            .replaceAll(/^\S*qemu\S*: /gm, '')
            .split('\n')
            .at(-1) || error.message
        )
    })
    // It may have gone before it reads this.
    child.stdin?.on('error', () => {})
    child.stdin?.end('quit\n')
  })
}

function trialMismatch(facts: Facts, refusal: string): Mismatch {
  const { cpu = '', accelerator = '' } = facts
  if (/support requested feature/.test(refusal)) {
    return {
      fact: 'cpu',
      wanted: cpu,
      here: '',
      advice: `resume it on a host whose ${accelerator} can give the CPU model ${cpu} whole (QEMU: ${refusal})`
    }
  }
  return {
    fact: 'accelerator',
    wanted: accelerator,
    here: '',
    advice:
      accelerator === 'kvm'
        ? `resume it on a host where KVM works (QEMU: ${refusal})`
        : `see what QEMU says: ${refusal}`
  }
}
