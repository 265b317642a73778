import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { mkdir, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { scratch } from '../support/scratch.js'

const ROOT = fileURLToPath(new URL('../../..', import.meta.url))

test('a program in TypeScript needs nothing but the package and node types', async (t) => {
  const dir = await scratch(t)
  await mkdir(join(dir, 'node_modules', '@types'), { recursive: true })
  await symlink(ROOT, join(dir, 'node_modules', 'hyperparcel'))
  await symlink(join(ROOT, 'node_modules/@types/node'), join(dir, 'node_modules/@types/node'))
  const options = {
    target: 'es2023',
    module: 'nodenext',
    strict: true,
    noEmit: true,
    skipLibCheck: false,
    types: ['node']
  }
  await writeFile(join(dir, 'package.json'), '{ "type": "module" }')
  await writeFile(join(dir, 'tsconfig.json'), JSON.stringify({ compilerOptions: options }))
  await writeFile(
    join(dir, 'program.ts'),
    `import { Host, ParcelError, type VersionInfo } from 'hyperparcel'
     import { DaemonClient } from 'hyperparcel/client'
     export async function carry(host: Host, name: string): Promise<VersionInfo | null> {
       try {
         for await (const event of host.suspend(name)) if (event.type === 'progress') event.done.toFixed()
         return (await host.suspend(name, { message: 'carried' })).version
       } catch (error) {
         if (error instanceof ParcelError && error.code === 'DISK_FULL') return null
         throw error
       }
     }
     export const names = async (client: DaemonClient): Promise<string[]> =>
       (await client.call('ls', {})).parcels.map(({ name }) => name)`
  )
  const tsc = join(ROOT, 'node_modules/typescript/bin/tsc')
  const { stdout } = await promisify(execFile)(process.execPath, [tsc, '-p', dir])
  assert.equal(stdout, '')
})
