// v86's own declarations need the DOM library, so these stand in for them: only what we call.
// The path is that of the file, because a declaration for 'v86' would not keep the compiler from
// reading v86's.
declare module 'v86/build/libv86.mjs' {
  /** What v86 asks of a disk (its src/buffer.js). Offsets and lengths are bytes. */
  export interface DiskBuffer {
    readonly byteLength: number
    /** Set by v86, to be called by `load`. */
    onload?: () => void
    load(): void
    get(offset: number, length: number, done: (bytes: Uint8Array) => void): void
    set(offset: number, bytes: Uint8Array, done: () => void): void
    get_and_cache(offset: number, length: number, done: (bytes: Uint8Array) => void): void
    get_from_cache(offset: number, length: number): Uint8Array | undefined
    get_state(): unknown[]
    set_state(state: unknown[]): void
  }

  export interface Options {
    wasm_fn: (imports: { env: Record<string, unknown> }) => Promise<object>
    memory_size: number
    vga_memory_size: number
    bios: { buffer: ArrayBuffer }
    hda?: DiskBuffer
    net_device: { type: 'none' }
    autostart: false
    disable_keyboard: true
    disable_mouse: true
    disable_speaker: true
  }

  export interface Cpu {
    /** Guest memory. A proxy that follows the WebAssembly memory when that grows. */
    readonly mem8: Uint8Array
    readonly devices: { readonly uart0: { readonly input: number[] } }
    /** Runs the guest for a while; returns the milliseconds until it needs to run again. */
    main_loop: () => number
    /** What save_state and restore_state do with guest memory. */
    unpack_memory: () => void
    pack_memory: () => { bitmap: { get_buffer(): ArrayBuffer }; packed_memory: Uint8Array }
  }

  export class V86 {
    constructor(options: Options)
    /** Once the WebAssembly is there; its `cpu` is whole once 'emulator-loaded' has come. */
    readonly v86: { readonly cpu: Cpu; init(settings: object): void }
    add_listener(event: 'serial0-output-byte', listener: (byte: number) => void): void
    add_listener(event: 'emulator-loaded' | 'cpu-event-halt', listener: () => void): void
    run(): Promise<void>
    stop(): Promise<void>
    destroy(): Promise<void>
    save_state(): Promise<ArrayBuffer>
    restore_state(state: ArrayBuffer): Promise<void>
    serial_send_bytes(port: number, bytes: Uint8Array): void
  }
}

// Node has it, but the library es2023 and @types/node 20 do not declare it.
declare namespace WebAssembly {
  class Module {
    private readonly module: never
  }
  function compile(bytes: Uint8Array): Promise<Module>
  function instantiate(module: Module, imports: object): Promise<{ readonly exports: object }>
}
