import type { Command } from '../measure.js'

/** Where one tool works during one run. */
export interface Place {
  /** Empty at first; all that the tool keeps goes in here. */
  repo: string
  /** What is stored: `disk.img`, and a small file that is newer. */
  folder: string
  /** Counts what was stored, from 1. */
  version: number
}

/** A tool that stores versions of a folder, each version as a program to run. */
export interface Keeper {
  name: string
  /** How it was set up, for the reader. */
  how: string
  /** null: not present on this machine. */
  version(): string | null
  /** Makes an empty repository; not measured. */
  init(place: Place): Command[]
  store(place: Place): Command
  /** Writes the newest version into the folder `to`, which is there and empty. */
  restore(place: Place, to: string): Command
  /** A process beside that has a part in each step: what it uses there counts, too, and what is on disk does not. */
  service?(place: Place): number
  /** After the last step; not measured. */
  end?(place: Place): Command[]
  /** What the step took within its process, if the tool prints that. */
  call?(stdout: string): { wall: number; cpu: number }
}
