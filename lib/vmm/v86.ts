import { readFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { Duplex } from 'node:stream'
import type { V86 } from 'v86/build/libv86.mjs'
import { ParcelError } from '../errors.js'
import type { Driver, Facts, RunningMachine } from './driver.js'
import { MACHINE_FILE } from './machine-file.js'
import { builtInRom } from './rom.js'
import { Disk } from './v86-disk.js'
import { compareFacts, readFacts, readSpec, writeDefault } from './v86-machine.js'
import { DEVICE, drop, MEMORY, restore, save } from './v86-state.js'

/** Console bytes held for a reader that is slow, and typed bytes for a guest that is. */
const CONSOLE_LIMIT = 64 * 1024

const require = createRequire(import.meta.url)

/**
 * The monitor that npm installs: an x86 PC in WebAssembly, in this process. The machine file is
 * `{ "vmm": "v86", "memory": "4M", "bios": "rom.bin", "disks": [{ "file": "disk.img" }] }`;
 * `bios` (64, 128 or 256 KiB) and `disks` (one raw image, whole sectors of 512) may be left out.
 */
export const v86: Driver = {
  name: 'v86',
  statePaths: [MEMORY, DEVICE],
  // Its memory is in this process: it cannot come page by page.
  imageRoles: ['disk'],
  needsServer: false,

  prepare: writeDefault,

  async describe(dir, images = null) {
    const { disk } = await readSpec({ dir, images })
    return {
      dir,
      images,
      roles: {
        [MACHINE_FILE]: 'config',
        ...(disk !== null && { [disk.path]: 'disk' }),
        [MEMORY]: 'memory',
        [DEVICE]: 'device'
      }
    }
  },

  async facts(machine) {
    return readFacts(machine)
  },

  async mismatches(facts) {
    return compareFacts(facts)
  },

  async start(machine, { resume }) {
    const { dir, images } = machine
    const spec = await readSpec(machine)
    const facts = await readFacts(machine)
    let disk: Disk | null = null
    let emulator: V86 | null = null
    try {
      const rom = spec.bios === null ? builtInRom() : await readFile(spec.bios.real)
      const image = spec.disk === null ? null : (images?.volume(spec.disk.path) ?? null)
      if (image !== null) disk = new Disk(image)
      else if (spec.disk !== null) disk = await Disk.open(spec.disk.real)
      emulator = await load(spec.memory, rom, disk)
      if (resume) {
        await restore(dir, emulator)
        await drop(dir)
      }
      return run(dir, emulator, disk, facts)
    } catch (error) {
      await Promise.allSettled([emulator?.destroy(), disk?.close()])
      throw failed(error)
    }
  }
}

/** Lets a loaded emulator run, and owns it and its disk from here on. */
function run(dir: string, emulator: V86, disk: Disk | null, facts: Facts): RunningMachine {
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
    facts,
    exited,
    // It is in this process, and there is little else in it.
    cpuTime: async () => {
      const { user, system } = process.cpuUsage()
      return (user + system) / 1e6
    },
    capture: () => (capturing ??= capture().finally(() => (capturing = null))),
    async proceed() {
      if (ended) return
      await drop(dir)
      await emulator.run()
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

/** Whatever went wrong in the monitor, with its own words; a full disk stays one. */
function failed(error: unknown): ParcelError {
  const known = ParcelError.from(error, 'v86')
  return known.code === 'FAILED' ? new ParcelError('VMM_FAILED', known.message, error) : known
}
