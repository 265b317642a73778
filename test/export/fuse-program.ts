// Serves a small tree by FUSE until its standard input ends:
//   node fuse-program.js DIR STALL
// DIR/mnt is mounted, DIR/expected is what disk.img has. Chunk STALL is given out only after SIGUSR1.
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { once } from 'node:events'
import { join } from 'node:path'
import { FuseFileSystem } from '../../lib/export/fuse.js'
import { mountFuse } from '../../lib/export/fuse-mount.js'
import { FolderTree } from '../../lib/image/folder-tree.js'
import { CHUNK_SIZE } from '../../lib/format/limits.js'
import { openImage, storeFile } from '../image/images.js'

const [dir = '', stall = '-1'] = process.argv.slice(2)
const size = 48 * CHUNK_SIZE + 5_000
const file = await storeFile(size)
// The same contents each time, so that an overlay fits them.
const seed = await readFile(join(dir, 'expected')).catch(() => null)
if (seed !== null) {
  const again = await storeFile(size, seed)
  Object.assign(file, again)
}
await writeFile(join(dir, 'expected'), file.contents)
await mkdir(join(dir, 'mnt'), { recursive: true })
const stalled = file.contents.subarray(Number(stall) * CHUNK_SIZE, (Number(stall) + 1) * CHUNK_SIZE)
if (Number(stall) >= 0) {
  const read = file.source.read.bind(file.source)
  file.source.read = async (place) => {
    const bytes = await read(place)
    if (bytes.equals(stalled)) await once(process, 'SIGUSR1')
    return bytes
  }
}
const common = { mode: 0o644, mtime: 1_700_000_000_000_000_000n }
const disk = await openImage(file, join(dir, 'overlay'))
const small = await storeFile(10)
const tree = new FolderTree([
  { ...common, type: 'file', path: Buffer.from('disk.img'), volume: disk },
  { ...common, mode: 0o755, type: 'folder', path: Buffer.from('folder') },
  {
    ...common,
    type: 'file',
    path: Buffer.from('folder/small'),
    volume: await openImage(small, join(dir, 'small'))
  },
  { ...common, type: 'symlink', path: Buffer.from('link'), target: Buffer.from('folder/small') }
])
const fileSystem = new FuseFileSystem(tree, {
  readahead: 0,
  isReadOnly: false,
  changes: null,
  space: () => ({ total: 2 ** 40, free: 2 ** 39 })
})
const mounted = await mountFuse(join(dir, 'mnt'), fileSystem)
process.stdout.write('mounted\n')
process.stdin.resume()
await Promise.race([once(process.stdin, 'end'), mounted.ended])
await mounted.unmount()
await mounted.ended
process.exit(0)
