import { test } from 'node:test'
import { missing } from '../support/programs.js'
import { failEachWrite } from './failing-writes.js'

const STRACE = { skip: missing(['strace']) }
const ALL = Array.from({ length: 1_000 }, (_, n) => n + 1)

for (const error of ['ENOSPC', 'EIO'] as const) {
  test(`every write of a suspend fails once with ${error}, and nothing is lost`, STRACE, (t) =>
    failEachWrite(t, error, ALL)
  )
}
