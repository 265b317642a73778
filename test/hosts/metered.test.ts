import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { test } from 'node:test'
import { objects, Place } from '../cli/place.js'
import { eventually } from '../support/hosts.js'
import { onEnd } from '../support/on-end.js'
import { TestNetwork } from './test-network.js'

const missing = TestNetwork.missing()
const NAMESPACE = `hsm${process.pid}`

function ip(...args: string[]): void {
  const { status, stderr } = spawnSync('ip', args, { encoding: 'utf8' })
  assert.equal(status, 0, `ip ${args.join(' ')}: ${stderr}`)
}

test(
  'a network that costs is known by its name, when it is entered and when it is left',
  { skip: missing ?? false, timeout: 90_000 },
  async (t) => {
    ip('netns', 'add', NAMESPACE)
    onEnd(t, () => ip('netns', 'delete', NAMESPACE))
    const inside = (...args: string[]): void => ip('-n', NAMESPACE, ...args)
    inside('link', 'set', 'lo', 'up')
    for (const [n, name] of ['wwan7', 'lan0'].entries()) {
      const end = `${name}-end`
      inside('link', 'add', name, 'type', 'veth', 'peer', 'name', end)
      inside('link', 'set', end, 'up')
      inside('addr', 'add', `10.98.${n}.1/24`, 'dev', name)
      inside('link', 'set', name, 'up')
    }
    inside('route', 'add', 'default', 'via', '10.98.0.2', 'dev', 'wwan7', 'metric', '100')
    const place = await Place.make(t)
    const user = place.user('one', { by: ['ip', 'netns', 'exec', NAMESPACE] })
    await user.ok('init', '--name', 'one')
    onEnd(t, () => user.run('daemon', 'stop'))
    const metered = async (): Promise<unknown> =>
      objects(await user.ok('limits', '--json'))[0]?.['metered']
    await user.ok('limits', '--metered-on', 'wwan*', 'Hotel*')
    assert.equal(await metered(), 'by its name')
    assert.match(await user.ok('limits'), /the link is metered, by its name/)
    inside('route', 'add', 'default', 'via', '10.98.1.2', 'dev', 'lan0', 'metric', '50')
    await eventually(async () => (await metered()) === null || null, 'no more', 30_000)
    inside('route', 'delete', 'default', 'dev', 'lan0')
    await eventually(async () => (await metered()) === 'by its name' || null, 'again', 30_000)
    await user.ok('limits', '--metered-on', 'none')
    assert.equal(await metered(), null)
  }
)
