import { parentPort } from 'node:worker_threads'
import { ParcelError } from '../errors.js'
import { check } from './check-job.js'
import { failureOf } from './failure.js'
import type { Answer, AnyOrder, Jobs, Order } from './jobs.js'
import { list } from './list-job.js'
import { measure } from './measure-job.js'
import { pack } from './pack-job.js'
import { readFiles } from './read-files-job.js'
import { read } from './read-job.js'
import { reuse } from './reuse-job.js'
import { linkFiles, lookAtFiles, unlinkFiles } from './second-names.js'
import { unpack } from './unpack-job.js'
import { writeFiles } from './write-files-job.js'

const DO: { [Name in keyof Jobs]: (job: Jobs[Name][0]) => Jobs[Name][1] } = {
  read,
  readFiles,
  list,
  measure,
  pack,
  unpack,
  reuse,
  check,
  writeFiles,
  linkFiles,
  unlinkFiles,
  lookAtFiles
}

/** What of a result goes over as it is, without a copy. */
const BUFFERS: { [Name in keyof Jobs]: (result: Jobs[Name][1]) => ArrayBuffer[] } = {
  read: ({ buffer, ids }) => [buffer, ids],
  readFiles: ({ buffer, ids, stats }) => [buffer, ids, stats],
  list: (folders) => folders.flatMap(({ names, stats }) => [names, stats]),
  measure: () => [],
  pack: ({ raw, out }) => [raw, out],
  unpack: () => [],
  reuse: () => [],
  check: () => [],
  writeFiles: ({ buffer, made }) => [buffer, made],
  linkFiles: (stats) => [stats],
  unlinkFiles: (stats) => [stats],
  lookAtFiles: (stats) => [stats]
}

const port = parentPort
if (port === null) throw new Error('this file is a worker thread')

port.on('message', (order: AnyOrder) => {
  const { answer, buffers } = carryOut(order)
  port.postMessage(answer, buffers)
})

function carryOut<Name extends keyof Jobs>({
  name,
  job
}: Order<Name>): { answer: Answer; buffers: ArrayBuffer[] } {
  try {
    const result = DO[name](job)
    return { answer: { result, error: null }, buffers: BUFFERS[name](result) }
  } catch (error) {
    const failure = { ...failureOf(error), isOurs: error instanceof ParcelError }
    return { answer: { result: null, error: failure }, buffers: [] }
  }
}
