/**
 * What a commit reads: `mtime` leaves out files whose size, times and inode are as they were when
 * the folder's version was made, `full` reads everything.
 */
export const SCANS = ['mtime', 'full'] as const
export type Scan = (typeof SCANS)[number]

/**
 * `baseline`: everything is fetched and written before the machine starts. `demand`: it starts at
 * once and its disk and memory come as they are wanted, the rest behind. `hoard`: it starts like that
 * when all of it is here.
 */
export const POLICIES = ['baseline', 'demand', 'hoard'] as const
export type Policy = (typeof POLICIES)[number]

/**
 * `available`: what is here is used, and it is said who was not heard. `latest`: a resume waits for
 * every host that was heard in the last days. `lease`: one host at a time runs it.
 */
export const CONSISTENCIES = ['available', 'latest', 'lease'] as const
export type Consistency = (typeof CONSISTENCIES)[number]

/** Of which versions all is fetched without being asked for: of the heads, of the last ones too, of all, of none. */
export type HoardedVersions = 'head' | 'all' | 'none' | `last:${number}`

/** Which versions are fetched without being asked for, and which of their files, as globs; none: all. */
export interface HoardPolicy {
  versions: HoardedVersions
  files: string[]
}

export function isHoardedVersions(text: string): text is HoardedVersions {
  return /^(head|all|none|last:[1-9]\d{0,5})$/.test(text)
}

/** When versions of a machine that runs are made by themselves, ms; null: not for that reason. */
export interface CheckpointPolicy {
  /** So often. */
  every: number | null
  /** When it has done little for so long, after it did something. */
  idle: number | null
}
