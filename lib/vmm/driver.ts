import type { Duplex } from 'node:stream'
import type { MachineFolder, ServedImages } from './machine-folder.js'

/**
 * What a file of a parcel is to its machine. It decides the size of its packs and the order in
 * which it is fetched, nothing else.
 */
export type Role = 'file' | 'config' | 'disk' | 'nvram' | 'memory' | 'device' | 'log'

/**
 * What must be alike on the host that suspends and the host that resumes, as flat text, for
 * example `{ accelerator: 'tcg', cpu: 'qemu64', 'disk:disk.img': '67108864' }`. Written into
 * the version record and compared before anything is fetched.
 */
export type Facts = Record<string, string>

/** One fact that differs, and what the user can do about it. */
export interface Mismatch {
  fact: string
  /** As written in the version. */
  wanted: string
  /** As it is on this host; the empty string when this host has no such thing. */
  here: string
  advice: string
}

/** A machine as its machine file describes it, checked. */
export interface Machine extends MachineFolder {
  /** Role of each file of the folder that is not a plain one, by its path within the folder ('/'-separated). */
  roles: Record<string, Role>
}

/** A machine that runs, or is stopped with its state captured. */
export interface RunningMachine {
  /** The guest's serial console: readable is what the guest prints, writable is what the user types. */
  readonly console: Duplex
  /** Where the screen is, for example 'vnc+unix:///…/vnc.sock'; null without one. */
  readonly screen: string | null
  /** Settles when the monitor has ended, for whatever reason; the text says why, null when it was asked to. */
  readonly exited: Promise<string | null>
  /** The machine as it was started: what it is suspended as. */
  readonly facts: Facts
  /** Seconds of processor time that the guest has had, all its processors together; null: it cannot be told. */
  cpuTime(): Promise<number | null>
  /**
   * Writes what the monitor and the system have in their hands into the folder's files while the guest runs
   * on, so that a capture has little left to write. Absent where there is nothing to gain.
   */
  settle?(): Promise<void>
  /**
   * Stops the guest and writes everything that is not yet in the folder's files (device state,
   * memory, disk caches) into them, so that the folder alone is the whole machine.
   * Afterwards the guest stands still until `proceed` or `end`. If it fails, the guest goes on running.
   */
  capture(): Promise<void>
  /** Lets the guest go on after `capture`. */
  proceed(): Promise<void>
  /** Ends the monitor at once, whatever the guest is doing. The folder keeps what it has. */
  end(): Promise<void>
}

export interface StartOptions {
  /** true: take memory and device state from the folder (a resume). false: a cold boot. */
  resume: boolean
  /** A private folder, 0700, for sockets and pid files; its path may be long, so use paths relative to it. */
  runDir: string
}

/** A machine monitor. One file a driver; `lib/vmm/drivers.ts` lists them. */
export interface Driver {
  readonly name: string
  /**
   * Writes a machine file that suits what is in the folder, if the folder has none.
   * Returns whether it wrote one.
   */
  prepare(dir: string): Promise<boolean>
  /** Reads and checks the machine file. Throws ParcelError BAD_MACHINE, naming the field and what is allowed. */
  describe(dir: string, images?: ServedImages | null): Promise<Machine>
  /** The facts that a version of this machine carries, read when it is captured. Throws BAD_MACHINE. */
  facts(machine: Machine): Promise<Facts>
  /**
   * Compares a version's facts with what this host can do, before anything of it is fetched:
   * so it sees no file of the machine, only the facts. An empty list: it can be resumed here.
   */
  mismatches(facts: Facts): Promise<Mismatch[]>
  /** Begins what `start` needs and no file of the machine says. Absent where there is nothing. */
  prepareStart?(): void
  /** Starts the machine; settles when the guest runs. Throws ParcelError VMM_FAILED with the monitor's own words. */
  start(machine: Machine, options: StartOptions): Promise<RunningMachine>
  /**
   * Paths within the folder that hold a suspended guest's state (memory, device state) and are
   * removed from the folder once a version that has them is durable.
   */
  readonly statePaths: readonly string[]
  /** Files of these roles need not be here for the machine to run: they can be served. */
  readonly imageRoles: readonly Role[]
  /** Whether its monitor is another program, which must see them as files and block devices. */
  readonly needsServer: boolean
}
