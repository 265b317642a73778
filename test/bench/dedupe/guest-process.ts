// Two checkpoints of an idle Linux guest, ten seconds apart: guest-process.js DIR DHT MIB
// Prints for each what the call took and what was stored, as JSON.
import { mkdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { buildGuest } from '../../../examples/demo/linux-guest.js'
import { Host } from '../../../lib/index.js'
import { timedCall } from '../timed-call.js'

const IDLE = 10_000
const BOOT_LIMIT = 120_000

const [dir = '', bootstrap = '', memory = ''] = process.argv.slice(2)
const folder = join(dir, 'guest')
await mkdir(folder)
await buildGuest(folder, { memory: `${memory}M`, diskMiB: 32, marker: 'bench' })
const host = await Host.create({ home: join(dir, 'home'), name: 'bench', bootstrap })
await host.add(folder, { name: 'guest', vm: 'qemu' })
await host.run('guest')
try {
  await booted(join(folder, 'console.log'))
  const checkpoints: { wall: number; cpu: number; stored: number }[] = []
  for (const _ of ['first', 'second']) {
    await setTimeout(IDLE)
    const { value, call } = await timedCall(async () => host.checkpoint('guest'))
    checkpoints.push({ ...call, stored: value.version.stored })
  }
  console.log(JSON.stringify(checkpoints))
} finally {
  await host.stop('guest')
  await host.close()
}

async function booted(log: string): Promise<void> {
  const deadline = performance.now() + BOOT_LIMIT
  for (;;) {
    const text = await readFile(log, 'latin1').catch(() => '')
    if (/guest up[^]*tick \d+/.test(text)) return
    if (performance.now() > deadline) throw new Error(`the guest did not come up: ${text}`)
    await setTimeout(100)
  }
}
