import { test } from 'node:test'
import { losePower } from './power-loss.js'

test('20 losses of power: what a host had said that it has is there', (t) =>
  losePower(t, { images: 20, seed: 1 }))
