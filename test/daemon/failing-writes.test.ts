import { test } from 'node:test'
import { missing } from '../support/programs.js'
import { failEachWrite } from './failing-writes.js'

const STRACE = { skip: missing(['strace']) }

test('a write of a suspend for which the disk has no room loses nothing', STRACE, (t) =>
  failEachWrite(t, 'ENOSPC', [1, 3, 7])
)

test('a write of a suspend that the disk cannot carry out loses nothing', STRACE, (t) =>
  failEachWrite(t, 'EIO', [2, 4])
)
