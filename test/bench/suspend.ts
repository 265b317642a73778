// How fast a large sparse image goes in and comes out, and how much memory it takes.
//   npm run bench [-- --data MiB] [-- --json]
// The data are real files of this machine, one after the other; figures depend on it and are for
// comparing two builds in one sitting.
import { spawnSync } from 'node:child_process'
import { createReadStream } from 'node:fs'
import { mkdir, mkdtemp, open, readdir, rm } from 'node:fs/promises'
import { cpus, tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { Host, VERSION } from '../../lib/index.js'

const { values } = parseArgs({
  options: { data: { type: 'string', default: '1100' }, json: { type: 'boolean', default: false } }
})
const wanted = Number(values.data) * 1_048_576
const scratch = await mkdtemp(join(tmpdir(), 'hyperparcel-bench-'))
const rows: { what: string; seconds: number; megabytesPerSecond: number; stored: number }[] = []

try {
  const folder = join(scratch, 'image')
  await mkdir(folder)
  const bytes = await makeImage(join(folder, 'disk.img'), wanted)
  const host = await Host.create({
    home: join(scratch, 'home'),
    name: 'bench',
    bootstrap: '127.0.0.1:1'
  })
  await host.add(folder, { name: 'image', vm: 'folder' })
  for (const what of ['first suspend', 'second suspend, unchanged', 'without compression']) {
    const compress = what !== 'without compression'
    if (!compress) {
      await host.add(await copyOf(folder), { name: 'plain', vm: 'folder' })
    }
    await measure(what, bytes, async () => {
      const { version } = await host.suspend(compress ? 'image' : 'plain', { compress })
      return version.stored
    })
  }
  await measure('resume to files', bytes, async () => {
    await host.resume('image', { to: join(scratch, 'out') })
    return 0
  })
  await host.close()
  const memory = Math.round(process.resourceUsage().maxRSS / 1_024)
  if (values.json) {
    console.log(JSON.stringify({ version: VERSION, node: process.version, memory, rows }))
  } else {
    console.log(`hyperparcel ${VERSION}, Node ${process.version}, ${cpus().length} cores`)
    console.log(`image of 2 GiB, ${Math.round(bytes / 1e6)} MB of it data\n`)
    for (const { what, seconds, megabytesPerSecond, stored } of rows) {
      const size = stored === 0 ? '' : `, ${(stored / 1e6).toFixed(1)} MB stored`
      console.log(
        `${what.padEnd(28)} ${seconds.toFixed(2).padStart(7)} s ${String(megabytesPerSecond).padStart(6)} MB/s of data${size}`
      )
    }
    console.log(`\nat most ${memory} MiB of memory`)
  }
} finally {
  await rm(scratch, { recursive: true, force: true })
}
process.exit(0)

async function measure(what: string, bytes: number, run: () => Promise<number>): Promise<void> {
  const started = performance.now()
  const stored = await run()
  const seconds = (performance.now() - started) / 1_000
  rows.push({ what, seconds, megabytesPerSecond: Math.round(bytes / 1e6 / seconds), stored })
}

async function makeImage(path: string, most: number): Promise<number> {
  const image = await open(path, 'w')
  let at = 0
  try {
    await image.truncate(2 ** 31)
    for (const root of ['/usr/lib', '/usr/bin', '/usr/share']) {
      const names = await readdir(root, { recursive: true, withFileTypes: true })
      for (const entry of names) {
        if (!entry.isFile() || at >= most) continue
        const stream = createReadStream(join(entry.parentPath, entry.name))
        stream.on('error', () => {})
        for await (const part of stream)
          at += (await image.write(Buffer.from(part), 0, null, at)).bytesWritten
        at = Math.ceil(at / 4_096) * 4_096
      }
    }
  } finally {
    await image.close()
  }
  return at
}

async function copyOf(folder: string): Promise<string> {
  const { status } = spawnSync('cp', ['-a', '--sparse=always', folder, `${folder}-copy`])
  if (status !== 0) throw new Error('cp failed')
  return `${folder}-copy`
}
