import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { eventually, TestHosts } from '../support/hosts.js'

test('a vault keeps and serves what it cannot read', async (t) => {
  const hosts = await TestHosts.start(t)
  const owner = await hosts.create('owner')
  const folder = join(hosts.dir, 'folder')
  await mkdir(folder)
  const markers = Array.from({ length: 200 }, () => randomBytes(12).toString('hex'))
  for (const [n, marker] of markers.entries()) {
    await writeFile(join(folder, `name-${marker}`), `${marker} `.repeat(n % 7 === 0 ? 5_000 : 50))
  }
  await owner.add(folder, { name: 'diary', vm: 'folder' })
  await owner.suspend('diary')
  const vault = await hosts.create('vault')
  const { name } = await vault.join((await owner.invite('diary', { role: 'vault' })).invite)
  assert.match(name, /^vault-[0-9a-f]{8}$/)
  const reader = await hosts.create('reader')
  await reader.join((await owner.invite('diary', { role: 'reader' })).invite)
  await eventually(
    async () => (await reader.status('diary')).members.length === 3 || null,
    'the reader knows the vault'
  )
  await hosts.stop('reader')
  // What comes later too, and after a new epoch, whose keys it is given in part.
  await owner.rotate('diary')
  await writeFile(join(folder, 'late'), markers.join('\n'))
  await owner.suspend('diary', { message: 'late' })
  await eventually(async () => {
    const { members } = await vault.status(name)
    return members.some(({ role }) => role === 'vault') || null
  }, 'it knows who is who')
  await assert.rejects(async () => vault.suspend(name))
  await assert.rejects(vault.invite(name), { code: 'FORBIDDEN' })
  assert.deepEqual(await vault.log(name), [])
  const logs = async (): Promise<number> => owner.status('diary').then(({ blocks }) => blocks.total)
  assert.ok((await logs()) > 0)
  // All that there is to have: what the reader said last it may have taken with it.
  await eventually(async () => {
    const { done, total } = owner.inProcess.copiedTo(vault.inProcess)
    return (done === total && total >= (await logs())) || null
  }, 'it has all')
  await hosts.stop('owner')
  const again = await hosts.open('reader')
  await eventually(async () => {
    const [head] = (await again.status('diary')).heads
    return (head?.message === 'late' && head.isHere) || null
  }, 'all of it comes from the vault')
  const to = join(hosts.dir, 'to')
  await again.resume('diary', { to })
  assert.equal(await readFile(join(to, 'late'), 'utf8'), markers.join('\n'))
  await hosts.stop('vault')
  const names = [...markers, 'diary', 'name-']
  assert.deepEqual(await found(hosts.home('vault'), names), [])
})

/** Which of these texts stand anywhere in the files of a folder. */
async function found(dir: string, texts: readonly string[]): Promise<string[]> {
  const hits = new Set<string>()
  for (const file of await readdir(dir, { recursive: true, withFileTypes: true })) {
    if (!file.isFile()) continue
    const bytes = await readFile(join(file.parentPath, file.name))
    for (const text of texts) if (bytes.includes(text)) hits.add(text)
  }
  return [...hits]
}
