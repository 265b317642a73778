import { test } from 'node:test'
import { losePower } from './power-loss.js'

test('500 losses of power: what a host had said that it has is there', (t) =>
  losePower(t, { images: 500, seed: 2 }))
