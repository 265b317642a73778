import {
  lstat,
  mkdir,
  open,
  readFile,
  rename,
  rm,
  writeFile,
  type FileHandle
} from 'node:fs/promises'
import { join } from 'node:path'
import { isDeepStrictEqual } from 'node:util'
import { z } from 'zod'
import { ParcelError } from '../errors.js'
import type { Facts } from './driver.js'
import { fileOf, isServed, type MachineFolder } from './machine-folder.js'
import { bad, type MachineSpec } from './qemu-machine.js'

/** The guest's memory, mapped by QEMU: while the guest runs, this file changes. */
export const MEMORY = 'state/memory'
/**
 * QEMU's migration stream without the memory. Present only while it belongs to the memory beside
 * it: written last by a capture, removed before the guest goes on.
 */
export const DEVICE = 'state/device'
/** The machine at the time of the capture, for a resume from the folder alone to compare. */
export const MACHINE = 'state/machine.json'

const RECORD_LIMIT = 128 * 1024
const RESUMED = `${DEVICE}.resumed`
/** These may differ: a newer QEMU reads an older one's state. */
const MAY_CHANGE = new Set(['vmm', 'qemu'])

const record = z.object({ facts: z.record(z.string(), z.string()), spec: z.unknown() })

/**
 * Makes an empty memory file for a cold boot and returns its path. It takes its place with
 * `adoptMemory` only when QEMU has locked the disks, so that a second start of a running
 * machine cannot take the memory of the first.
 */
export async function createMemory(dir: string, bytes: number): Promise<string> {
  await makeStateFolder(dir)
  const path = join(dir, `${MEMORY}.new`)
  await rm(path, { force: true })
  const file = await open(path, 'wx', 0o600)
  try {
    await file.truncate(bytes)
  } finally {
    await file.close()
  }
  return path
}

/** Puts a fresh memory file in its place; what was suspended before is gone then. */
export async function adoptMemory(dir: string): Promise<void> {
  await rm(join(dir, DEVICE), { force: true })
  await rename(join(dir, `${MEMORY}.new`), join(dir, MEMORY))
}

/** Before the guest goes on: its device state stops being true with its first step. */
export async function setDeviceAside(dir: string): Promise<void> {
  await rename(join(dir, DEVICE), join(dir, RESUMED))
}

/** When the guest could not go on after all. */
export async function putDeviceBack(dir: string): Promise<void> {
  await rename(join(dir, RESUMED), join(dir, DEVICE))
}

/** When the guest goes on. */
export async function dropDevice(dir: string): Promise<void> {
  await rm(join(dir, RESUMED), { force: true })
}

/**
 * Checks that the folder holds a suspended guest of this very machine. QEMU would accept another
 * CPU model, another accelerator, a smaller disk or two disks that changed places without a word,
 * and the guest would break.
 * Throws VMM_FAILED when the state is missing or not whole, BAD_MACHINE when the machine differs.
 */
export async function checkSuspended(
  folder: MachineFolder,
  spec: MachineSpec,
  now: Facts
): Promise<void> {
  for (const path of ['state', MEMORY, DEVICE, MACHINE]) {
    const found = await lstat(fileOf(folder, path)).catch(() => null)
    if (found === null || !(path === 'state' ? found.isDirectory() : found.isFile())) {
      throw cannotResume(`the folder has no ${path}; boot the machine afresh instead`)
    }
    if (path === MEMORY && found.size !== spec.memory) {
      throw cannotResume(`${MEMORY} has ${found.size} bytes, and the machine has ${spec.memory}`)
    }
  }
  const { facts: then, spec: specThen } = await readRecord(fileOf(folder, MACHINE))
  for (const fact of new Set([...Object.keys(then), ...Object.keys(now)])) {
    if (MAY_CHANGE.has(fact) || then[fact] === now[fact]) continue
    throw changed(`${fact} was ${then[fact] ?? 'absent'} and is ${now[fact] ?? 'absent'}`)
  }
  if (!isDeepStrictEqual(specThen, spec)) throw changed('compare it with state/machine.json')
}

/** Opens the file that a capture writes, aside, and never one that was there: it may be a link. */
export async function createDevice(dir: string): Promise<FileHandle> {
  await makeStateFolder(dir)
  const path = join(dir, `${DEVICE}.tmp`)
  await rm(path, { force: true })
  return open(path, 'wx', 0o600)
}

/**
 * Makes a written capture durable: memory and disks first, then the machine, and last the device
 * state, whose name in the folder says that all of it is there.
 */
export async function commitCapture(
  folder: MachineFolder,
  spec: MachineSpec,
  facts: Facts,
  device: FileHandle
): Promise<void> {
  const { dir } = folder
  await syncFiles(folder, spec)
  const temporary = join(dir, `${MACHINE}.tmp`)
  await rm(temporary, { force: true })
  await writeFile(temporary, JSON.stringify({ facts, spec }, null, 2) + '\n', {
    flag: 'wx',
    mode: 0o600,
    flush: true
  })
  await device.sync()
  await rename(temporary, join(dir, MACHINE))
  await rename(join(dir, `${DEVICE}.tmp`), join(dir, DEVICE))
  await sync(join(dir, 'state'))
}

/** Has the system write memory and disks to where they are kept. */
export async function syncFiles(folder: MachineFolder, spec: MachineSpec): Promise<void> {
  const disks = spec.disks.filter((disk) => disk.readonly !== true).map((disk) => disk.file)
  for (const path of [MEMORY, ...disks, ...(spec.nvram === undefined ? [] : [spec.nvram])]) {
    // Block devices were flushed when the guest was stopped; a mapped file was not.
    if (path === MEMORY || !isServed(folder, path)) await sync(fileOf(folder, path))
  }
}

/** Removes what a start or a capture leaves when it fails, or when the host goes down in it. */
export async function dropTemporary(dir: string): Promise<void> {
  for (const path of [`${MEMORY}.new`, `${DEVICE}.tmp`, `${MACHINE}.tmp`, RESUMED]) {
    // A stray folder of that name is the user's; the failure that led here is the one to report.
    await rm(join(dir, path), { force: true }).catch(() => {})
  }
}

async function makeStateFolder(dir: string): Promise<void> {
  const path = join(dir, 'state')
  await mkdir(path, { mode: 0o700, recursive: true })
  if (!(await lstat(path)).isDirectory()) throw bad('stands beside a state that is not a folder')
}

async function readRecord(path: string): Promise<z.output<typeof record>> {
  const text = await readFile(path)
  const parsed = text.length > RECORD_LIMIT ? null : record.safeParse(parseJson(text.toString()))
  if (parsed?.success === true) return parsed.data
  throw cannotResume(`${MACHINE} is damaged`)
}

function cannotResume(why: string): ParcelError {
  return new ParcelError('VMM_FAILED', `cannot resume: ${why}`)
}

function changed(what: string): ParcelError {
  return bad(
    `or a file it names was changed since the guest was suspended: ${what}; put it back, or boot the machine afresh`
  )
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

async function sync(path: string): Promise<void> {
  const file = await open(path, 'r')
  try {
    await file.sync()
  } finally {
    await file.close()
  }
}
