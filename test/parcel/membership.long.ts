import { test } from 'node:test'
import { outcomeOf } from './membership-world.js'

test('eight hosts, 500 operations, 200 seeds: the same members everywhere', () => {
  for (let seed = 1_001; seed <= 1_200; seed++) outcomeOf(seed)
})
