import { parentPort } from 'node:worker_threads'
import { ParcelError } from '../errors.js'
import { check, type CheckJob } from './check-job.js'
import { list, type ListJob, type ListResult } from './list-job.js'
import { measure, type MeasureJob, type MeasureResult } from './measure-job.js'
import { pack, type PackJob, type PackResult } from './pack-job.js'
import { readFiles, type ReadFilesJob, type ReadFilesResult } from './read-files-job.js'
import { read, type ReadJob, type ReadResult } from './read-job.js'
import { unpack, type UnpackJob } from './unpack-job.js'
import { writeFiles, type WriteFilesJob, type WriteFilesResult } from './write-files-job.js'

export type Job =
  ReadJob | ReadFilesJob | ListJob | MeasureJob | WriteFilesJob | PackJob | UnpackJob | CheckJob
export type Result =
  | ReadResult
  | ReadFilesResult
  | ListResult
  | MeasureResult
  | WriteFilesResult
  | PackResult
  | undefined

/** What a thread answers: the result, or what went wrong. */
export interface Done {
  result: Result
  error: { message: string; code: string; isOurs: boolean } | null
}

const port = parentPort
if (port === null) throw new Error('this file is a worker thread')

port.on('message', (job: Job) => {
  const done = run(job)
  const { result } = done
  // Buffers go back to where they came from, whether the job was done or not.
  if (job.kind === 'read' || job.kind === 'read-files') {
    const transfer = result !== undefined && 'ids' in result ? [job.buffer, result.ids] : []
    port.postMessage(done, transfer)
  } else if (job.kind === 'pack') {
    port.postMessage(done, result === undefined ? [] : [job.raw, job.out])
  } else if (result !== undefined && 'folders' in result) {
    const buffers = result.folders.flatMap(({ names, stats }) => [names, stats])
    port.postMessage(done, buffers)
  } else if (result !== undefined && 'made' in result) {
    port.postMessage(done, [result.buffer, result.made])
  } else {
    port.postMessage(done)
  }
})

function run(job: Job): Done {
  try {
    if (job.kind === 'read') return { result: read(job), error: null }
    if (job.kind === 'list') return { result: list(job), error: null }
    if (job.kind === 'measure') return { result: measure(job), error: null }
    if (job.kind === 'read-files') return { result: readFiles(job), error: null }
    if (job.kind === 'write-files') return { result: writeFiles(job), error: null }
    if (job.kind === 'pack') return { result: pack(job), error: null }
    if (job.kind === 'check') check(job)
    else unpack(job)
    return { result: undefined, error: null }
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error)
    const code = error instanceof Error && 'code' in error ? String(error.code) : ''
    const isOurs = error instanceof ParcelError
    return { result: undefined, error: { message, code, isOurs } }
  }
}
