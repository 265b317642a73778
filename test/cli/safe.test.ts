import assert from 'node:assert/strict'
import { rm } from 'node:fs/promises'
import { test } from 'node:test'
import { eventually } from '../support/hosts.js'
import { objects, Place } from './place.js'

test('after a suspend: here, durable; on another; on a vault too: safe to leave', async (t) => {
  const place = await Place.make(t)
  const laptop = await place.host('laptop')
  await place.write('work/file', 'one')
  await laptop.ok('add', place.path('work'), '--name', 'work', '--vm', 'folder')
  assert.match(await laptop.ok('suspend', 'work'), /: here, durable \(/)
  await place.write('work/file', 'two')
  assert.match(await laptop.fails(5, 'suspend', 'work', '--wait', '0'), /make a vault/)
  assert.match(await laptop.ok('status', 'work'), /here, durable\n/)

  const desk = await place.host('desk')
  await desk.ok('join', String((await laptop.result('invite', 'work'))['invite']))
  await place.write('work/file', 'three')
  const said = await laptop.ok('suspend', 'work', '--wait', '60')
  assert.match(said, /: here, durable [^]*\non desk: safe to leave\n$/)
  assert.match(await laptop.ok('status', 'work'), /here, durable; on desk: safe to leave/)

  const box = await place.host('box')
  await box.ok('vault', String((await laptop.result('vault', 'invite', 'work'))['invite']))
  for (const wrong of ['-1', '1.5', 'x', '65']) {
    assert.equal((await laptop.run('copies', 'work', '--', wrong)).code, 2)
  }
  await laptop.ok('copies', 'work', '2')
  await place.write('work/file', 'four')
  const lines = objects(await laptop.ok('suspend', 'work', '--wait', '60', '--json'))
  const holders = lines.flatMap(({ type, holders: on }) => (type === 'copies' ? [on] : []))
  const last = holders.at(-1)
  assert.ok(Array.isArray(last) && last.length === 3, JSON.stringify(lines))
  assert.match(
    await laptop.ok('status', 'work'),
    /on (desk and vault-[0-9a-f]{8}|vault-[0-9a-f]{8} and desk): safe to leave/
  )

  // Of who is off nothing is promised.
  await desk.ok('daemon', 'stop')
  await place.write('work/file', 'five')
  const line = await laptop.fails(5, 'suspend', 'work', '--wait', '5')
  assert.match(line, /1 of 2 other hosts have it: bring desk online/)
  assert.doesNotMatch(await laptop.ok('status', 'work'), /safe to leave/)

  // What the vault has signed for it has: a newcomer gets it from there alone.
  await laptop.ok('daemon', 'stop')
  await rm(laptop.home, { recursive: true })
  await eventually(async () => {
    const [head] = JSON.parse(await desk.ok('status', 'work', '--json')).heads
    return head?.isHere === true || null
  }, 'it comes from the vault')
})
