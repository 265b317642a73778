import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { cp, readdir, readFile, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { keyPairFrom } from '../../lib/keys/identity.js'
import { Store } from '../../lib/log/store.js'
import { finish } from '../support/cli.js'
import { scratch } from '../support/scratch.js'
import { aKeyring, aLog, openStore } from './stores.js'

test('a store that is open is STORE_IN_USE, here and in another process', async (t) => {
  const { dir, store, keyPair } = await aLog(t)
  await assert.rejects(Store.open(dir), { code: 'STORE_IN_USE' })
  const program = join(await scratch(t), 'program.mjs')
  const source = new URL('../../lib/log/store.js', import.meta.url)
  await writeFile(
    program,
    `import { Store } from ${JSON.stringify(source.href)}
     try {
       await (await Store.open(${JSON.stringify(dir)})).close()
       console.log('opened')
     } catch (error) {
       console.log(error.code)
     }`
  )
  const open = async (): Promise<string> => {
    return (await finish(spawn(process.execPath, [program], { timeout: 10_000 }))).stdout
  }
  assert.equal(await open(), 'STORE_IN_USE\n')
  // The refused ones left it as it was.
  const log = await store.own('data', keyPair, aKeyring())
  await log.append([[Buffer.from('more')]])
  await store.close()
  assert.equal(await open(), 'opened\n')
  const again = await openStore(t, dir)
  assert.equal((await again.own('data', keyPair, aKeyring())).length, 2)
})

test('neither secret key nor seed nor plaintext is in the files of a store', async (t) => {
  const dir = join(await scratch(t), 'store')
  const store = await openStore(t, dir)
  const seed = randomBytes(32)
  const keyPair = keyPairFrom(seed)
  const log = await store.own('data', keyPair, aKeyring())
  const plaintext = randomBytes(100_000)
  await log.append([[Buffer.from('short and secret')], [plaintext]])
  await store.flush()
  await store.close()
  let total = 0
  let foundKey = false
  for (const name of await readdir(dir, { recursive: true })) {
    const path = join(dir, name)
    if (!(await stat(path)).isFile()) continue
    const bytes = await readFile(path)
    total += bytes.byteLength
    foundKey ||= bytes.includes(log.key)
    const secrets = [seed, keyPair.secretKey, Buffer.from('short and secret')]
    for (const secret of [...secrets, plaintext.subarray(5_000, 5_016)]) {
      assert.equal(bytes.includes(secret), false, name)
      assert.equal(bytes.includes(secret.toString('hex')), false, name)
    }
  }
  assert.ok(total > plaintext.byteLength && foundKey, 'looked at the wrong files')
})

test('a copied store is FORKED and stays as it is', async (t) => {
  const { dir, store } = await aLog(t)
  await store.flush()
  await store.close()
  const copy = join(await scratch(t), 'copy')
  await cp(dir, copy, { recursive: true })
  await assert.rejects(Store.open(copy), { code: 'FORKED' })
  await assert.rejects(Store.open(copy), { code: 'FORKED' })
  await openStore(t, dir)
})

test('opening a store again and again leaves few reports of RocksDB behind', async (t) => {
  const dir = join(await scratch(t), 'store')
  for (let n = 0; n < 6; n++) await (await Store.open(dir)).close()
  const reports = (await readdir(join(dir, 'db'))).filter((name) => name.startsWith('LOG'))
  assert.equal(reports.length, 3)
})
