// A parcel with many versions: versions-process.js make HOME DHT FOLDER COUNT | open HOME DHT | log HOME DHT
// `make` prints nothing; `open` and `log` print what the call took as JSON.
import { randomBytes } from 'node:crypto'
import { open, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Host } from '../../../lib/index.js'
import { timedCall } from '../timed-call.js'

const [step = '', home = '', bootstrap = '', folder = '', count = '0'] = process.argv.slice(2)
const options = { home, bootstrap }
const SIZE = 4 * 1_048_576

if (step === 'make') {
  const host = await Host.create({ ...options, name: 'bench' })
  await host.add(folder, { name: 'many', vm: 'folder' })
  const path = join(folder, 'disk.img')
  await writeFile(path, randomBytes(SIZE))
  for (let n = 0; n < Number(count); n++) {
    const file = await open(path, 'r+')
    await file.write(randomBytes(4_096), 0, 4_096, ((n * 37) % (SIZE / 4_096)) * 4_096)
    await file.close()
    await host.suspend('many')
  }
  await host.close()
} else if (step === 'open') {
  const { value: host, call } = await timedCall(() => Host.open(options))
  console.log(JSON.stringify(call))
  await host.close()
} else {
  const host = await Host.open(options)
  const { value: versions, call } = await timedCall(() => host.log('many'))
  if (versions.length === 0) throw new Error('no versions')
  console.log(JSON.stringify(call))
  await host.close()
}
