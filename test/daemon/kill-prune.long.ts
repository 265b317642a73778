import { test } from 'node:test'
import { killPruneLoop } from './kill-prune.js'

test('a daemon killed in 200 prunes loses nothing that is kept', (t) => killPruneLoop(t, 200))
