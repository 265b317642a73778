import type { CheckJob } from './check-job.js'
import type { Failure } from './failure.js'
import type { ListedFolder, ListJob } from './list-job.js'
import type { MeasureJob, MeasureResult } from './measure-job.js'
import type { PackJob, PackResult } from './pack-job.js'
import type { ReadFilesJob, ReadFilesResult } from './read-files-job.js'
import type { ReadJob, ReadResult } from './read-job.js'
import type { ReuseJob } from './reuse-job.js'
import type { NamesJob } from './second-names.js'
import type { UnpackJob } from './unpack-job.js'
import type { WriteFilesJob, WriteFilesResult } from './write-files-job.js'

/** What a thread can do, by its name: what goes in, and what comes out. */
export interface Jobs {
  read: [ReadJob, ReadResult]
  readFiles: [ReadFilesJob, ReadFilesResult]
  list: [ListJob, ListedFolder[]]
  measure: [MeasureJob, MeasureResult]
  pack: [PackJob, PackResult]
  unpack: [UnpackJob, void]
  reuse: [ReuseJob, boolean[]]
  check: [CheckJob, void]
  writeFiles: [WriteFilesJob, WriteFilesResult]
  linkFiles: [NamesJob, ArrayBuffer]
  unlinkFiles: [NamesJob, ArrayBuffer]
  lookAtFiles: [NamesJob, ArrayBuffer]
}

/** A job on its way to a thread. */
export interface Order<Name extends keyof Jobs> {
  name: Name
  job: Jobs[Name][0]
}

export type AnyOrder = { [Name in keyof Jobs]: Order<Name> }[keyof Jobs]

/** What a thread answers: what came out of the job, or what went wrong. */
export interface Answer<Result = Jobs[keyof Jobs][1] | null> {
  result: Result
  error: (Failure & { isOurs: boolean }) | null
}
