import { test } from 'node:test'
import { strangersKnock } from './strangers.js'

test('strangers who knock get no stream and cost nothing', async (t) => strangersKnock(t, 100, 50))
