import { rm } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import type { Duplex } from 'node:stream'
import { z } from 'zod'
import { ParcelError } from '../errors.js'
import type { Facts, RunningMachine } from './driver.js'
import { cpuTimeOf } from './cpu-time.js'
import { VNC_SOCKET } from './qemu-command.js'
import {
  commitCapture,
  createDevice,
  DEVICE,
  dropDevice,
  dropTemporary,
  putDeviceBack,
  setDeviceAside,
  syncFiles
} from './qemu-folder.js'
import type { MachineFolder } from './machine-folder.js'
import type { MachineSpec } from './qemu-machine.js'
import type { QemuProcess } from './qemu-process.js'
import { cancelMigration, saveDevices } from './qemu-state.js'
import type { Qmp } from './qmp.js'

interface RunningOptions {
  folder: MachineFolder
  runDir: string
  /** The machine and its facts as QEMU was started with them; the file may be edited meanwhile. */
  spec: MachineSpec
  facts: Facts
  child: QemuProcess
  qmp: Qmp
}

const statusAnswer = z.object({ running: z.boolean(), status: z.string() })

/** A QEMU whose guest runs, or stands still after a capture. */
export class RunningQemu implements RunningMachine {
  readonly console: Duplex
  readonly screen: string | null
  readonly exited: Promise<string | null>
  readonly facts: Facts
  readonly #options: RunningOptions
  #state: 'running' | 'capturing' | 'captured' = 'running'

  constructor(options: RunningOptions) {
    const { child, qmp, runDir, spec } = options
    this.#options = options
    this.console = child.console
    this.screen = spec.display === 'none' ? null : `vnc+unix://${resolve(runDir, VNC_SOCKET)}`
    this.exited = child.exited
    this.facts = options.facts
    qmp.on('event', ({ event, data }) => {
      if (event !== 'SHUTDOWN') return
      child.reason =
        data.guest === true ? 'the guest switched itself off' : 'a signal asked QEMU to end'
    })
  }

  /**
   * Stops the guest, has QEMU write its devices, and makes the folder durable. Throws VMM_FAILED,
   * or DISK_FULL; the guest goes on then, if QEMU is still there.
   */
  async capture(): Promise<void> {
    if (this.#state !== 'running') {
      throw new ParcelError('VMM_FAILED', 'the machine is captured already')
    }
    this.#state = 'capturing'
    const { folder, runDir, spec, facts, qmp } = this.#options
    try {
      const device = await createDevice(folder.dir)
      try {
        await qmp.execute('stop')
        await saveDevices(qmp, runDir, device)
        await commitCapture(folder, spec, facts, device)
      } finally {
        await device.close()
      }
      this.#state = 'captured'
    } catch (error) {
      await this.#giveUpCapture()
      const known = ParcelError.from(error, 'cannot suspend the machine')
      if (known.code !== 'FAILED') throw known
      throw new ParcelError('VMM_FAILED', known.message, error)
    }
  }

  cpuTime(): Promise<number | null> {
    return cpuTimeOf(this.#options.child.pid)
  }

  settle(): Promise<void> {
    const { folder, spec } = this.#options
    return syncFiles(folder, spec)
  }

  /**
   * Removes the device state from the folder: it stops being true. Throws VMM_FAILED when QEMU
   * cannot go on, for example because another program took the disk; the capture stands then.
   */
  async proceed(): Promise<void> {
    if (this.#state !== 'captured') {
      throw new ParcelError('VMM_FAILED', 'the machine is not captured')
    }
    await leaveCapture(this.#options.folder.dir, this.#options.qmp)
    this.#state = 'running'
  }

  async end(): Promise<void> {
    const { child, qmp } = this.#options
    await child.end(() => qmp.execute('quit'))
    qmp.close()
  }

  /** What went wrong with the capture is what the user is told, so failures here are not. */
  async #giveUpCapture(): Promise<void> {
    const { folder, qmp } = this.#options
    await cancelMigration(qmp).catch(() => {})
    await rm(join(folder.dir, DEVICE), { force: true }).catch(() => {})
    await dropTemporary(folder.dir)
    await goOn(qmp).catch(() => {})
    this.#state = 'running'
  }
}

/** Lets the guest run, and makes sure that it does. Throws VMM_FAILED. */
export async function goOn(qmp: Qmp): Promise<void> {
  await qmp.execute('cont')
  const { running, status } = await queryStatus(qmp)
  if (!running) throw new ParcelError('VMM_FAILED', `the guest does not run; QEMU says '${status}'`)
}

/**
 * Lets a guest run whose state is in the folder. Memory and disks change with its first step, so
 * the device state leaves the folder before it; a QEMU that refuses to go on puts it back.
 */
export async function leaveCapture(dir: string, qmp: Qmp): Promise<void> {
  await setDeviceAside(dir)
  try {
    await goOn(qmp)
  } catch (error) {
    // Put back only if the guest is known to stand where it stood.
    const stands = await queryStatus(qmp).then(
      ({ status }) => ['paused', 'postmigrate', 'inmigrate', 'prelaunch'].includes(status),
      () => false
    )
    if (stands) await putDeviceBack(dir)
    throw error
  }
  await dropDevice(dir)
}

async function queryStatus(qmp: Qmp): Promise<z.output<typeof statusAnswer>> {
  return statusAnswer.parse(await qmp.execute('query-status'))
}
