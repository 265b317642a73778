import assert from 'node:assert/strict'
import { test } from 'node:test'
import { gone, objects, processesOf } from '../cli/place.js'
import { finish } from '../support/cli.js'
import { eventually } from '../support/hosts.js'
import {
  SKIP,
  SUM,
  DATA_SUM,
  Hosts,
  status,
  ask,
  nextTick,
  Console,
  monitor,
  stalled
} from './demand-hosts.js'

for (const isCached of [false, true]) {
  const what = isCached ? 'memory' : 'disk'
  test(
    `a guest that waits for its ${what}: status says from whom, stop ends it, suspend gives up, it goes on`,
    { skip: SKIP },
    async (t) => {
      const hosts = await Hosts.start(t, { isCached })
      const { a, b } = hosts
      await hosts.resume(b)
      await nextTick(b)
      const first = await monitor(b)
      await a.ok('daemon', 'stop')
      await ask(b, 'sum', null)
      await stalled(b)
      const release = await hosts.hold(b)
      await b.ok('stop', 'vm')
      await gone(first)
      assert.deepEqual(await processesOf(b.home, 'image-server.js'), [])

      await a.ok('status', 'vm')
      await hosts.resume(b, '--force')
      release()
      const before = await nextTick(b)
      const qemu = await monitor(b)
      const happened = async (type: string, since: number): Promise<Record<string, unknown>> =>
        eventually(async () => {
          const all = objects(await b.ok('events', 'vm', '--json', '--since', String(since)))
          return all.find(({ event }) => event === type) ?? null
        }, type)
      const last = objects(await b.ok('events', 'vm', '--json')).at(-1)
      await a.killDaemon()
      const console = new Console(b)
      const from = await console.type('sum')
      const { images } = await stalled(b)
      assert.match(images?.stall?.why ?? '', /blocks? of its disk or memory/)
      // A host that was killed has not said that it goes.
      await eventually(async () => {
        const [from] = (await status(b)).images?.stall?.from ?? []
        return from === 'a (not connected)' ? true : null
      }, 'a host that is not connected')
      const told = await happened('stalled', Number(last?.['number']))
      assert.match(String(told['text']), /^it waits for .* of its disk or memory, from a/)
      // A second one finds the first still under way.
      for (let round = 0; round < 2; round++) {
        assert.match(await b.fails(6, 'suspend', 'vm'), /cannot be stopped/)
      }
      // One whose caller is gone without a word does not leave the guest standing still.
      const orphan = b.start('suspend', 'vm')
      const ended = finish(orphan)
      await eventually(
        async () => ((await b.client.status())?.active === 1 ? true : null),
        'a suspend under way'
      )
      await b.killDaemon()
      await ended
      await a.ok('status', 'vm')
      assert.equal(await console.find(SUM, from, 'a sum'), DATA_SUM)
      await console.close()
      const after = await nextTick(b)
      assert.ok(after.tick > before.tick && after.uptime > before.uptime)
      assert.equal(await monitor(b), qemu)
      assert.equal((await status(b)).images?.stall, null)
      await happened('goes-on', Number(told['number']))
      await b.ok('suspend', 'vm')
    }
  )
}
