import type { PartReport } from './report.js'

/** What a part is given to work with. */
export interface Bench {
  /** A folder of its own. */
  dir: string
  runs: number
  /** Megabytes of files in the image. */
  data: number
  /** Address of a private DHT. */
  dht: string
  /** Also what takes tens of gigabytes. */
  huge: boolean
  /** Whether to run a tool. Those that are not asked for by default only when named. */
  wants(tool: string, byDefault?: boolean): boolean
  /** A tool that takes part, or would have: null is "not present". */
  saw(tool: string, version: string | null, how: string): void
  say(text: string): void
}

export interface Part {
  name: string
  about: string
  run(bench: Bench): Promise<PartReport>
}
