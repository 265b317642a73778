import { test } from 'node:test'
import { runSeeds } from './seeds.js'

// Some two hours: one of two halves, which run at the same time.
test('five hosts in 250 worlds from 1_250 on: nothing acknowledged is lost', (t) =>
  runSeeds(t, { first: 1_250, count: 250, steps: 200 }))
