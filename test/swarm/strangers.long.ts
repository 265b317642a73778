import { test } from 'node:test'
import { strangersKnock } from './strangers.js'

test('10,000 strangers who knock get no stream and cost nothing', async (t) =>
  strangersKnock(t, 10_000, 128))
