import { createHash } from 'node:crypto'
import { lstat, mkdir, open, readFile, rename, rm } from 'node:fs/promises'
import type { FileHandle } from 'node:fs/promises'
import { join } from 'node:path'
import type { Cpu, V86 } from 'v86/build/libv86.mjs'
import { ParcelError } from '../errors.js'
import { readAll, writeAll } from './v86-disk.js'
import { bad, locate } from './v86-machine.js'

/*
 * A suspended guest is two files: state/memory is guest memory, raw, with holes; state/device is
 * v86's own state without memory, then the typed bytes that the guest has not read (v86 leaves
 * them out), their number (u32 little-endian), and SHA-256 of all that. The device file is renamed
 * into place last, so where it is, both are whole and belong together.
 */
export const MEMORY = 'state/memory'
export const DEVICE = 'state/device'

/** Guest memory is read in slices of 1 MiB, and written in pieces of 64 KiB that may be holes. */
const ZEROS = Buffer.alloc(1024 * 1024)
const HOLE = ZEROS.subarray(0, 64 * 1024)

/** Writes both state files beside the old ones, then puts them in place. Leaves no *.tmp behind. */
export async function save(dir: string, emulator: V86, ended: () => boolean): Promise<void> {
  const { cpu } = emulator.v86
  const [memory, device] = [join(dir, MEMORY), join(dir, DEVICE)]
  await mkdir(join(dir, 'state'), { recursive: true })
  if (!(await lstat(join(dir, 'state'))).isDirectory()) throw bad('state', 'must be a folder')
  try {
    await writeNew(`${memory}.tmp`, (file) => writeMemory(file, cpu, ended))
    await writeNew(`${device}.tmp`, async (file) => file.writeFile(await deviceState(emulator)))
    if (ended()) throw new ParcelError('NOT_RUNNING', 'the machine was ended')
    await rm(device, { force: true })
    await rename(`${memory}.tmp`, memory)
    await rename(`${device}.tmp`, device)
    await sync(join(dir, 'state'))
  } catch (error) {
    await Promise.allSettled([rm(`${memory}.tmp`), rm(`${device}.tmp`)])
    throw error
  }
}

/** Before the guest goes on: with its first step the files stop being the state of its disk. */
export async function drop(dir: string): Promise<void> {
  await rm(join(dir, DEVICE), { force: true })
  await rm(join(dir, MEMORY), { force: true })
}

async function deviceState(emulator: V86): Promise<Buffer> {
  const { cpu } = emulator.v86
  const pages = cpu.mem8.length / 4096
  cpu.pack_memory = () => ({
    bitmap: { get_buffer: () => new ArrayBuffer(pages / 8) },
    packed_memory: new Uint8Array(0)
  })
  const typed = Buffer.from(cpu.devices.uart0.input)
  const count = Buffer.alloc(4)
  count.writeUInt32LE(typed.length)
  const bytes = Buffer.concat([Buffer.from(await emulator.save_state()), typed, count])
  return Buffer.concat([bytes, createHash('sha256').update(bytes).digest()])
}

/**
 * Puts the suspended guest of the folder into an emulator that has not run.
 * Throws VMM_FAILED when a state file is missing, damaged or of another size than the memory.
 */
export async function restore(dir: string, emulator: V86): Promise<void> {
  const { cpu } = emulator.v86
  const device = await locate(dir, DEVICE, 'VMM_FAILED')
  const memory = await locate(dir, MEMORY, 'VMM_FAILED')
  const all = await readFile(device.real)
  const bytes = all.subarray(0, Math.max(all.length - 32, 0))
  const sum = createHash('sha256').update(bytes).digest()
  if (bytes.length < 4 || !sum.equals(all.subarray(bytes.length))) {
    throw new ParcelError('VMM_FAILED', `${DEVICE} is damaged: take it from the version again`)
  }
  if (memory.size !== cpu.mem8.length) {
    const sizes = `${memory.size} bytes, and the machine's memory ${cpu.mem8.length}`
    throw new ParcelError('VMM_FAILED', `${MEMORY} is ${sizes}: take it from the version again`)
  }
  const end = bytes.length - 4
  const typed = bytes.subarray(end - bytes.readUInt32LE(end), end)
  cpu.unpack_memory = () => {}
  await emulator.restore_state(Uint8Array.from(bytes.subarray(0, end - typed.length)).buffer)
  cpu.devices.uart0.input.push(...typed)
  const file = await open(memory.real)
  try {
    const slice = Buffer.alloc(ZEROS.length)
    for (let at = 0; at < memory.size; at += slice.length) {
      await readAll(file, slice, at)
      // A new machine's memory is zero but for the ROM in its first MiB: leave it untouched.
      if (at === 0 || !slice.equals(ZEROS)) cpu.mem8.set(slice, at)
    }
  } finally {
    await file.close()
  }
}

/** Guest memory in pieces of 64 KiB; those that are all zero stay holes. The guest stands still. */
async function writeMemory(file: FileHandle, cpu: Cpu, ended: () => boolean): Promise<void> {
  const size = cpu.mem8.length
  await file.truncate(size)
  for (let at = 0; at < size && !ended(); at += HOLE.length) {
    const piece = cpu.mem8.subarray(at, at + HOLE.length)
    // A copy, because v86 may grow its WebAssembly memory, and that detaches every view of it.
    if (!HOLE.equals(piece)) await writeAll(file, Buffer.from(piece), at)
  }
}

/** Creates a file, never through a link that is there, and returns when it is on stable storage. */
async function writeNew(path: string, fill: (file: FileHandle) => Promise<void>): Promise<void> {
  await rm(path, { force: true })
  const file = await open(path, 'wx', 0o600)
  try {
    await fill(file)
    await file.sync()
  } finally {
    await file.close()
  }
}

async function sync(folder: string): Promise<void> {
  const handle = await open(folder)
  await handle.sync().finally(() => handle.close())
}
