import { test } from 'node:test'
import { killLoop } from './kill.js'

test('a daemon killed 200 times loses no acknowledged version', (t) => killLoop(t, 200))
