import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import { createHome, DaemonClient } from '../../lib/index.js'
import { homeIn } from '../support/cli.js'
import { onEnd } from '../support/on-end.js'
import { scratch } from '../support/scratch.js'

/** A host of its own without network, and a daemon's parcel `p`: a folder with one file in it. */
export async function oneHost(t: TestContext, contents: string | Uint8Array) {
  const dir = await scratch(t)
  const home = homeIn(dir, 'one')
  await createHome(home, 'one')
  const client = new DaemonClient({ home, bootstrap: '127.0.0.1:1' })
  onEnd(t, () => client.stop())
  const folder = join(dir, 'folder')
  await mkdir(folder)
  await writeFile(join(folder, 'file'), contents)
  await client.call('add', { path: folder, name: 'p', vm: 'folder' })
  return { dir, home, client, folder }
}
