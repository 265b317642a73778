import { test } from 'node:test'
import { killPruneLoop } from './kill-prune.js'

test('a daemon killed at random moments of a prune loses nothing that is kept', (t) =>
  killPruneLoop(t, 6))
