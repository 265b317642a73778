import { createHash } from 'node:crypto'
import { EventEmitter, once } from 'node:events'
import {
  lstat,
  mkdir,
  open,
  readFile,
  readdir,
  realpath,
  rename,
  rm,
  writeFile
} from 'node:fs/promises'
import type { FileHandle } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { totalmem } from 'node:os'
import { join, sep } from 'node:path'
import { Duplex } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Cpu, DiskBuffer, V86 } from 'v86/build/libv86.mjs'
import { z } from 'zod'
import { ParcelError } from '../errors.js'
import type { Driver, Facts, Mismatch, RunningMachine } from './driver.js'
import { builtInRom } from './rom.js'

/*
 * v86 runs in this process. A suspended guest is two files: state/memory is guest memory, raw,
 * with holes; state/device is v86's own state without memory, then the typed bytes that the
 * guest has not read (v86 leaves them out), their number (u32 little-endian), and SHA-256 of all
 * that. The device file is renamed into place last, so where it is, both are whole and belong
 * together.
 */
const MACHINE_FILE = 'machine.json'
const MACHINE_LIMIT = 64 * 1024
const MEMORY = 'state/memory'
const DEVICE = 'state/device'
const SIZES = ['1M', '2M', '4M', '8M', '16M', '32M', '64M', '128M', '256M', '512M', '1G']
const ROM_SIZES = [64, 128, 256].map((kib) => kib * 1024)
/** Guest memory is read in slices of 1 MiB, and written in pieces of 64 KiB that may be holes. */
const ZEROS = Buffer.alloc(1024 * 1024)
const HOLE = ZEROS.subarray(0, 64 * 1024)
/** Console bytes held for a reader that is slow, and typed bytes for a guest that is. */
const CONSOLE_LIMIT = 64 * 1024
const RETRY_MS = 1000

const require = createRequire(import.meta.url)
const { version } = z.object({ version: z.string() }).parse(require('v86/package.json'))
const VMM = `v86 ${version}`

const fileField = z
  .string('must be the path of a file in the folder')
  .refine(
    (text) => /^[^\0\\]+$/.test(text) && text.split('/').every((name) => !/^\.{0,2}$/.test(name)),
    'must be a relative path within the folder, with "/" between names and no "." or ".."'
  )
  .refine(
    (text) => text !== MACHINE_FILE && text.split('/')[0] !== 'state',
    'must not be the machine file or in state/, which holds the suspended guest'
  )
const machineFile = z.strictObject(
  {
    vmm: z.literal('v86', 'must be "v86"'),
    memory: z
      .enum(SIZES, `must be one of "${SIZES.join('", "')}"`)
      .transform((text) => 2 ** (20 + SIZES.indexOf(text))),
    bios: fileField.optional(),
    disks: z
      .array(z.strictObject({ file: fileField }, fields('file')), 'must be a list of disks')
      .max(1, 'must be one disk or none')
      .default([])
  },
  fields('vmm, memory, bios, disks')
)

/** A file that the machine file names: as named, its absolute path, and its bytes. */
interface LocalFile {
  path: string
  real: string
  size: number
}

/** A checked machine file; `memory` is in bytes, `bios` null means the built-in ROM. */
interface Spec {
  memory: number
  bios: LocalFile | null
  disk: LocalFile | null
}

/**
 * The monitor that npm installs: an x86 PC in WebAssembly. The machine file is
 * `{ "vmm": "v86", "memory": "4M", "bios": "rom.bin", "disks": [{ "file": "disk.img" }] }`;
 * `bios` (64, 128 or 256 KiB) and `disks` (one raw image, whole sectors of 512) may be left out.
 */
export const v86: Driver = {
  name: 'v86',
  statePaths: [MEMORY, DEVICE],

  async prepare(dir) {
    const files = (await readdir(dir, { withFileTypes: true })).filter((entry) => entry.isFile())
    const images = files.map((entry) => entry.name).filter((name) => name.endsWith('.img'))
    const file = images.toSorted()[0]
    const spec = { vmm: 'v86', memory: '4M', ...(file !== undefined && { disks: [{ file }] }) }
    try {
      const text = `${JSON.stringify(spec, null, 2)}\n`
      await writeFile(join(dir, MACHINE_FILE), text, { flag: 'wx' })
      return true
    } catch (error) {
      if (error instanceof Error && 'code' in error && error.code === 'EEXIST') return false
      throw ParcelError.from(error, MACHINE_FILE)
    }
  },

  async describe(dir) {
    const { disk } = await readSpec(dir)
    return {
      dir,
      roles: {
        [MACHINE_FILE]: 'config',
        ...(disk !== null && { [disk.path]: 'disk' }),
        [MEMORY]: 'memory',
        [DEVICE]: 'device'
      }
    }
  },

  async facts({ dir }) {
    const { memory, bios, disk } = await readSpec(dir)
    return {
      vmm: VMM,
      memory: String(memory),
      bios: bios === null ? builtIn() : `${bios.path} ${sha256(await readFile(bios.real))}`,
      ...(disk !== null && { [`disk:${disk.path}`]: String(disk.size) })
    }
  },

  async mismatches({ vmm = '', memory = '', bios = '' }: Facts) {
    const found: Mismatch[] = []
    const limit = Math.min(2 ** 30, totalmem())
    if (vmm !== VMM) {
      const advice = 'use the hyperparcel release that suspended it: its v86 is another version'
      found.push({ fact: 'vmm', wanted: vmm, here: VMM, advice })
    }
    if (!/^\d+$/.test(memory) || Number(memory) > limit) {
      const advice = 'resume it on a host with more memory; 1 GiB is the most that v86 can have'
      found.push({ fact: 'memory', wanted: memory, here: String(limit), advice })
    }
    if (bios.startsWith('built-in ') && bios !== builtIn()) {
      const advice = 'use the hyperparcel release that suspended it: its built-in ROM is another'
      found.push({ fact: 'bios', wanted: bios, here: builtIn(), advice })
    }
    return found
  },

  async start({ dir }, { resume }) {
    const spec = await readSpec(dir)
    let disk: Disk | null = null
    let emulator: V86 | null = null
    try {
      const rom = spec.bios === null ? builtInRom() : await readFile(spec.bios.real)
      if (spec.disk !== null) disk = await Disk.open(spec.disk.real)
      emulator = await load(spec.memory, rom, disk)
      if (resume) await restore(dir, emulator)
      return run(dir, emulator, disk)
    } catch (error) {
      await Promise.allSettled([emulator?.destroy(), disk?.close()])
      throw failed(error)
    }
  }
}

/** Lets a loaded emulator run, and owns it and its disk from here on. */
function run(dir: string, emulator: V86, disk: Disk | null): RunningMachine {
  const { cpu } = emulator.v86
  let ended = false
  let capturing: Promise<void> | null = null
  let settle: (reason: string | null) => void
  const exited = new Promise<string | null>((resolve) => (settle = resolve))
  const console = serialConsole(emulator, () => ended)

  async function finish(reason: string | null): Promise<void> {
    if (ended) return
    ended = true
    await Promise.allSettled([emulator.destroy(), disk?.close()])
    console.push(null)
    settle(reason)
  }
  const crash = (error: unknown) => void finish(failed(error).message)

  async function capture(): Promise<void> {
    if (ended) throw new ParcelError('NOT_RUNNING', 'the machine has ended: start it again')
    await emulator.stop()
    try {
      // A disk request under way is not part of v86's state: the resumed guest would wait for ever.
      await disk?.flush()
      await save(dir, emulator, () => ended)
    } catch (error) {
      if (!ended) await emulator.run()
      throw failed(error)
    }
  }

  const step = cpu.main_loop
  cpu.main_loop = () => {
    try {
      return step()
    } catch (error) {
      crash(error)
      return 0
    }
  }
  emulator.add_listener('cpu-event-halt', () => void finish('the guest halted its processor'))
  disk?.on('crash', crash)
  disk?.on('trouble', (error) => {
    if (!ended) console.push(`\r\n[${failed(error).message}; the guest waits]\r\n`)
  })
  void emulator.run()

  return {
    console,
    screen: null,
    exited,
    capture: () => (capturing ??= capture().finally(() => (capturing = null))),
    async proceed() {
      if (!ended) await emulator.run()
    },
    async end() {
      await finish(null)
      await exited
    }
  }
}

/** An emulator that stands still at its reset vector. */
async function load(memory: number, rom: Uint8Array, disk: Disk | null): Promise<V86> {
  const { V86 } = await import('v86/build/libv86.mjs')
  const module = await WebAssembly.compile(await readFile(require.resolve('v86/build/v86.wasm')))
  return await new Promise((resolve, reject) => {
    const emulator = new V86({
      wasm_fn: (imports) =>
        new Promise((ready) => {
          // v86's own prints to standard error, which is the supervisor's.
          imports.env['console_log_from_wasm'] = () => {}
          WebAssembly.instantiate(module, imports).then(({ exports }) => {
            ready(exports)
            queueMicrotask(() => catchInit(emulator, reject))
          }, reject)
        }),
      memory_size: memory,
      // There is no screen and no network: the least memory, and none of either in the state.
      vga_memory_size: 256 * 1024,
      net_device: { type: 'none' },
      bios: { buffer: new Uint8Array(rom).buffer },
      ...(disk !== null && { hda: disk }),
      autostart: false,
      disable_keyboard: true,
      disable_mouse: true,
      disable_speaker: true
    })
    emulator.add_listener('emulator-loaded', () => resolve(emulator))
    // v86 reads the first sector now; once the guest runs, it can wait, but a start must not.
    disk?.once('trouble', reject)
  })
}

/** v86 makes the machine in a callback of its own, where an error (no memory) would be nobody's. */
function catchInit({ v86: machine }: V86, fail: (error: unknown) => void): void {
  const init = machine.init.bind(machine)
  machine.init = (settings) => {
    try {
      init(settings)
    } catch (error) {
      fail(error)
    }
  }
}

/**
 * COM1. What nobody reads is dropped once CONSOLE_LIMIT bytes wait, as on a real line: a guest
 * does not stand still because nobody is attached. What the guest does not read holds the writer.
 */
function serialConsole(emulator: V86, ended: () => boolean): Duplex {
  const { input } = emulator.v86.cpu.devices.uart0
  let heard: number[] = []
  let wanted = true
  const stream = new Duplex({
    readableHighWaterMark: CONSOLE_LIMIT,
    read() {
      wanted = true
    },
    write(bytes: Buffer, _encoding, done) {
      if (!ended()) emulator.serial_send_bytes(0, bytes)
      const wait = () => {
        if (ended() || input.length < CONSOLE_LIMIT) done()
        else setTimeout(wait, 50)
      }
      wait()
    }
  })
  emulator.add_listener('serial0-output-byte', (byte) => {
    heard.push(byte)
    if (heard.length > 1) return
    queueMicrotask(() => {
      if (wanted) wanted = stream.push(Buffer.from(heard))
      heard = []
    })
  })
  return stream
}

/**
 * A raw disk image as v86 wants one. Requests go to the file one after the other, so a `get` sees
 * every `set` before it. One that fails is tried again each second, and the guest waits for it:
 * v86 cannot be told of a failure, and a write that vanished would be a corrupt disk. Meanwhile
 * `flush` rejects with the failure; 'trouble' is emitted once when it begins. 'crash' is v86
 * failing in what it does with the answer.
 */
export class Disk
  extends EventEmitter<{ trouble: [unknown]; crash: [unknown]; change: [] }>
  implements DiskBuffer
{
  readonly byteLength: number
  onload = () => {}
  readonly #file: FileHandle
  #last = Promise.resolve()
  #pending = 0
  #trouble: unknown = null
  #closed = false
  #first: Uint8Array | undefined

  private constructor(file: FileHandle, byteLength: number) {
    super()
    this.#file = file
    this.byteLength = byteLength
  }

  static async open(file: string): Promise<Disk> {
    const handle = await open(file, 'r+')
    return new Disk(handle, (await handle.stat()).size)
  }

  load(): void {
    this.onload()
  }

  get(offset: number, length: number, done: (bytes: Uint8Array) => void): void {
    const bytes = new Uint8Array(length)
    this.#queue(
      () => readAll(this.#file, bytes, offset),
      () => done(bytes)
    )
  }

  set(offset: number, bytes: Uint8Array, done: () => void): void {
    const copy = Uint8Array.from(bytes)
    this.#queue(() => writeAll(this.#file, copy, offset), done)
  }

  /** v86 asks for the first sector before it starts, and looks for the disk's geometry there. */
  get_and_cache(offset: number, length: number, done: (bytes: Uint8Array) => void): void {
    this.get(offset, length, (bytes) => {
      this.#first = bytes
      done(bytes)
    })
  }

  get_from_cache(): Uint8Array | undefined {
    return this.#first
  }

  get_state(): unknown[] {
    return []
  }

  set_state(): void {}

  /** Waits until no request is under way and the file is on stable storage. */
  async flush(): Promise<void> {
    while (this.#pending > 0) {
      if (this.#trouble !== null) throw this.#trouble
      await once(this, 'change')
    }
    await this.#file.sync()
  }

  async close(): Promise<void> {
    this.#closed = true
    await this.#file.close()
  }

  #queue(transfer: () => Promise<void>, done: () => void): void {
    this.#pending++
    this.#last = this.#last
      .then(() => this.#insist(transfer))
      .then(() => {
        this.#pending--
        if (!this.#closed) done()
        this.emit('change')
      })
      .catch((error) => void this.emit('crash', error))
  }

  async #insist(transfer: () => Promise<void>): Promise<void> {
    while (!this.#closed) {
      try {
        await transfer()
        this.#trouble = null
        return
      } catch (error) {
        if (this.#closed) return
        if (this.#trouble === null) this.emit('trouble', error)
        this.#trouble = error
        this.emit('change')
        await sleep(RETRY_MS, undefined, { ref: false })
      }
    }
  }
}

/** Writes both state files beside the old ones, then puts them in place. Leaves no *.tmp behind. */
async function save(dir: string, emulator: V86, ended: () => boolean): Promise<void> {
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

async function restore(dir: string, emulator: V86): Promise<void> {
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
  const file = await open(path, 'wx')
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

async function writeAll(file: FileHandle, bytes: Uint8Array, offset: number): Promise<void> {
  for (let at = 0; at < bytes.length;) {
    at += (await file.write(bytes, at, bytes.length - at, offset + at)).bytesWritten
  }
}

async function readAll(file: FileHandle, bytes: Uint8Array, offset: number): Promise<void> {
  for (let at = 0; at < bytes.length;) {
    const { bytesRead } = await file.read(bytes, at, bytes.length - at, offset + at)
    if (bytesRead === 0) throw new Error('a file of the machine has become shorter')
    at += bytesRead
  }
}

async function readSpec(dir: string): Promise<Spec> {
  const file = await locate(dir, MACHINE_FILE, 'BAD_MACHINE')
  if (file.size > MACHINE_LIMIT) throw bad(MACHINE_FILE, 'must be 64 KiB or less')
  let json: unknown
  try {
    json = JSON.parse(await readFile(file.real, 'utf8'))
  } catch (error) {
    throw bad(MACHINE_FILE, `must be JSON: ${ParcelError.from(error).message}`, error)
  }
  const parsed = machineFile.safeParse(json)
  if (!parsed.success) {
    const [issue] = parsed.error.issues
    const field = issue?.path.join('.') ?? ''
    throw bad(`${MACHINE_FILE}${field && `: ${field}`}`, String(issue?.message))
  }
  const { memory, bios, disks } = parsed.data
  const spec: Spec = { memory, bios: null, disk: null }
  if (bios !== undefined) spec.bios = await locate(dir, bios, 'BAD_MACHINE')
  if (disks[0] !== undefined) spec.disk = await locate(dir, disks[0].file, 'BAD_MACHINE')
  if (spec.bios !== null && !ROM_SIZES.includes(spec.bios.size)) {
    throw bad(spec.bios.path, 'must be a ROM of 64, 128 or 256 KiB')
  }
  if (spec.disk !== null && (spec.disk.size === 0 || spec.disk.size % 512 !== 0)) {
    throw bad(spec.disk.path, 'must be a raw disk image: a multiple of 512 bytes, not empty')
  }
  return spec
}

/** A file of the folder; one that a link leads out of it is refused, since parcels come from others. */
async function locate(
  dir: string,
  path: string,
  code: 'BAD_MACHINE' | 'VMM_FAILED'
): Promise<LocalFile> {
  const real = await realpath(join(dir, path)).catch((error: unknown) => {
    throw new ParcelError(code, `${path} is not there: ${ParcelError.from(error).message}`, error)
  })
  if (!real.startsWith(join(await realpath(dir), sep))) {
    throw new ParcelError(code, `${path} leads out of the folder: put the file itself there`)
  }
  const status = await lstat(real)
  if (!status.isFile()) throw new ParcelError(code, `${path} must be a plain file`)
  return { path, real, size: status.size }
}

function fields(list: string) {
  return {
    error: (issue: z.core.$ZodRawIssue) =>
      issue.code === 'unrecognized_keys'
        ? `has the unknown field "${issue.keys.join('", "')}"; the fields are ${list}`
        : `must be an object with the fields ${list}`
  }
}

function builtIn(): string {
  return `built-in ${sha256(builtInRom())}`
}

function sha256(bytes: Uint8Array): string {
  return `sha256:${createHash('sha256').update(bytes).digest('hex')}`
}

function bad(what: string, problem: string, cause?: unknown): ParcelError {
  return new ParcelError('BAD_MACHINE', `${what} ${problem}`, cause)
}

/** Whatever went wrong in the monitor, with its own words; a full disk stays one. */
function failed(error: unknown): ParcelError {
  const known = ParcelError.from(error, 'v86')
  return known.code === 'FAILED' ? new ParcelError('VMM_FAILED', known.message, error) : known
}
