import { open } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { ParcelError } from '../errors.js'
import type { Driver, Facts, Machine, RunningMachine, StartOptions } from './driver.js'
import { MACHINE_FILE } from './machine-file.js'
import { fileOf, isServed, type MachineFolder } from './machine-folder.js'
import { withoutHugePages } from './no-huge-pages.js'
import { DISPLAY_DEVICE, NETWORK_DEVICE, qemuArgs } from './qemu-command.js'
import {
  adoptMemory,
  checkSuspended,
  createMemory,
  DEVICE,
  dropTemporary,
  MACHINE,
  MEMORY
} from './qemu-folder.js'
import { hostMismatches, qemuVersion } from './qemu-host.js'
import {
  bad,
  readMachine,
  writeDefaultMachine,
  type Disk,
  type MachineSpec
} from './qemu-machine.js'
import { QemuProcess } from './qemu-process.js'
import { goOn, leaveCapture, RunningQemu } from './qemu-running.js'
import { loadDevices, prepareMigration } from './qemu-state.js'
import { Qmp } from './qmp.js'

/**
 * Runs machines in QEMU. The guest's memory is a file of the folder that QEMU maps, so a suspend
 * writes the devices alone (a few hundred KB) and syncs; a resume maps the file and reads them.
 *
 * The console must be read: a guest whose serial port nobody empties stalls when it prints.
 */
export const qemu: Driver = {
  name: 'qemu',
  statePaths: [MEMORY, DEVICE, MACHINE],
  imageRoles: ['disk', 'memory'],
  needsServer: true,
  prepare: writeDefaultMachine,

  async describe(dir, images = null): Promise<Machine> {
    const folder = { dir: resolve(dir), images }
    const spec = await readMachine(folder)
    for (const disk of spec.disks) {
      if (!isServed(folder, disk.file)) await virtualSize(folder, disk)
    }
    const roles: Machine['roles'] = {
      [MACHINE_FILE]: 'config',
      [MEMORY]: 'memory',
      [DEVICE]: 'device',
      [MACHINE]: 'config'
    }
    for (const disk of spec.disks) roles[disk.file] = 'disk'
    if (spec.nvram !== undefined) roles[spec.nvram] = 'nvram'
    return { ...folder, roles }
  },

  facts: async (machine) => factsOf(machine, await readMachine(machine)),
  mismatches: (facts) => hostMismatches(facts),

  prepareStart() {
    asked = qemuVersion()
    // Whoever starts a machine hears of it.
    asked.catch(() => {})
  },

  async start(folder: Machine, { resume, runDir }: StartOptions): Promise<RunningMachine> {
    const { dir } = folder
    const spec = await readMachine(folder)
    const version = asked ?? qemuVersion()
    asked = null
    const facts = await factsOf(folder, spec, version)
    await dropTemporary(dir)
    if (resume) await checkSuspended(folder, spec, facts)
    const memoryFile = resume ? fileOf(folder, MEMORY) : await createMemory(dir, spec.memory)
    let child: QemuProcess | null = null
    let qmp: Qmp | null = null
    try {
      const by = isServed(folder, MEMORY) ? withoutHugePages() : []
      child = await QemuProcess.launch(qemuArgs(spec, { folder, memoryFile, resume }), runDir, by)
      qmp = await Qmp.open(child.monitor)
      await prepareMigration(qmp)
      const running = new RunningQemu({ folder, runDir, spec, facts, child, qmp })
      if (resume) {
        await loadDevices(qmp, runDir, join(dir, DEVICE))
        await leaveCapture(dir, qmp)
      } else {
        await adoptMemory(dir)
        await goOn(qmp)
      }
      return running
    } catch (error) {
      await child?.end(async () => qmp?.execute('quit'))
      if (!resume) await dropTemporary(dir)
      throw startError(error, resume, child?.words ?? '')
    }
  }
}

/** The version that the next start is to have, if that was asked for already. */
let asked: ReturnType<typeof qemuVersion> | null = null

async function factsOf(
  folder: MachineFolder,
  spec: MachineSpec,
  version = qemuVersion()
): Promise<Facts> {
  const host = await version
  const facts: Facts = {
    ...(host === null ? { vmm: 'qemu' } : { vmm: `qemu ${host.version}`, qemu: host.fullVersion }),
    machine: spec.machine,
    cpu: spec.cpu,
    accelerator: spec.accelerator,
    memory: String(spec.memory),
    smp: String(spec.smp),
    network: spec.network === 'user' ? NETWORK_DEVICE : 'none',
    display: spec.display === 'vnc' ? DISPLAY_DEVICE : 'none'
  }
  for (const disk of spec.disks) {
    facts[`disk:${disk.file}`] = String(await virtualSize(folder, disk))
  }
  return facts
}

/** Bytes of a qcow2 header that are looked at. */
const QCOW2_HEADER = 80

/**
 * The size in bytes that the guest sees. A qcow2 image may name other files of the host as its
 * backing or its data, which QEMU would open: refused with BAD_MACHINE.
 * Header: https://www.qemu.org/docs/master/interop/qcow2.html
 */
async function virtualSize(folder: MachineFolder, disk: Disk): Promise<bigint> {
  // Of a raw one nothing is read: it may not be here.
  const length = disk.format === 'raw' ? 0 : QCOW2_HEADER
  const { size, head } = await lookAt(folder, disk.file, length)
  if (disk.format === 'raw') return BigInt(size)
  if (head.byteLength < 72 || head.readUInt32BE(0) !== 0x514649fb) {
    throw bad(`says that "${disk.file}" is a qcow2 image, which it is not`)
  }
  const hasBacking = head.readBigUInt64BE(8) !== 0n
  const hasDataFile =
    head.readUInt32BE(4) >= 3 && head.byteLength >= 80 && (head.readBigUInt64BE(72) & 4n) !== 0n
  if (hasBacking || hasDataFile) {
    throw bad(
      `names "${disk.file}", which keeps its data in another file; make it whole with: qemu-img convert -O qcow2`
    )
  }
  return head.readBigUInt64BE(24)
}

/** Size of a disk and so many bytes of its beginning, wherever it is. */
async function lookAt(
  folder: MachineFolder,
  path: string,
  length: number
): Promise<{ size: number; head: Buffer }> {
  const { images } = folder
  if (images !== null && images.mount === null && isServed(folder, path))
    return images.look(path, length)
  const file = await open(fileOf(folder, path), 'r')
  try {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(length), 0, length, 0)
    return { size: (await file.stat()).size, head: buffer.subarray(0, bytesRead) }
  } finally {
    await file.close()
  }
}

/** QEMU's own words say more than what we noticed of its end. */
function startError(error: unknown, resume: boolean, words: string): ParcelError {
  const context = resume ? 'cannot resume the machine' : 'cannot start the machine'
  const known = ParcelError.from(error, context)
  if (known.code === 'DISK_FULL' || known.code === 'BAD_MACHINE') return known
  const detail = error instanceof Error ? error.message : String(error)
  return new ParcelError('VMM_FAILED', `${context}: ${words === '' ? detail : words}`, error)
}
