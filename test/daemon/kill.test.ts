import { test } from 'node:test'
import { killLoop } from './kill.js'

test('a daemon killed at random moments loses no acknowledged version', (t) => killLoop(t, 8))
