import { test } from 'node:test'
import { runSeeds } from './seeds.js'

test('five hosts, wires that come apart, crashes, stores put back, wrong clocks: nothing acknowledged is lost', (t) =>
  runSeeds(t, { first: 0, count: 2, steps: 120 }))
