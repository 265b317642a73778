import assert from 'node:assert/strict'
import { rm } from 'node:fs/promises'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { test } from 'node:test'
import { DaemonClient } from '../../lib/index.js'
import { listenOn } from '../../lib/local-socket.js'
import { testDht } from '../support/hosts.js'
import { onEnd } from '../support/on-end.js'
import { oneHost } from './one-host.js'

test('a daemon that ends as soon as it was seen is followed by another one', async (t) => {
  const { home, client } = await oneHost(t, Buffer.from('x'))
  await client.stop()
  const path = join(home, 'daemon.sock')
  let seen = 0
  const ending = createServer((socket) => {
    seen++
    socket.destroy()
    ending.close()
    void rm(path, { force: true })
  })
  await listenOn(ending, path)
  const { address } = await testDht(t)
  const again = new DaemonClient({ home, bootstrap: address })
  onEnd(t, () => again.stop())
  const { parcels } = await again.call('ls', {})
  assert.deepEqual([seen, parcels.length], [1, 1])
})
