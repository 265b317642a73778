// How long a machine stands still for a checkpoint: `npm run bench:checkpoint`.
import { join } from 'node:path'
import { once } from 'node:events'
import { setTimeout } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { buildGuest, missingForQemu } from '../../../examples/demo/linux-guest.js'
import { Host, PrivateDht } from '../../../lib/index.js'
import { thisMachine } from '../machine.js'
import { cleanUp, scratchFolder } from '../scratch.js'

const { values } = parseArgs({
  options: {
    memory: { type: 'string', default: '384M' },
    /** MiB of random bytes that the guest writes into its memory before each checkpoint. */
    fill: { type: 'string', default: '100' },
    rounds: { type: 'string', default: '4' },
    json: { type: 'boolean', default: false }
  }
})

interface Row {
  files: 'folder' | 'served'
  round: number
  /** s: that the machine stood still, and that the checkpoint took. */
  paused: number
  took: number
  storedMb: number
}

async function ask(host: Host, command: string, answer: string): Promise<void> {
  const socket = await host.attach('vm')
  let text = ''
  socket.on('data', (part: Buffer) => (text += part.toString('latin1')))
  // A terminal is shown what was printed before.
  await setTimeout(100)
  text = ''
  socket.write(`${command}\n`)
  while (!text.includes(answer)) await once(socket, 'data')
  socket.destroy()
}

async function rounds(host: Host, files: Row['files']): Promise<Row[]> {
  const rows: Row[] = []
  for (let round = 1; round <= Number(values.rounds); round++) {
    await ask(host, `fill ${values.fill}`, `filled ${values.fill}`)
    const began = performance.now()
    const { paused, version } = await host.checkpoint('vm', { offline: true })
    const took = (performance.now() - began) / 1_000
    const storedMb = version.stored / 1e6
    rows.push({ files, round, paused: (paused ?? NaN) / 1_000, took, storedMb })
    await setTimeout(500)
  }
  return rows
}

async function main(): Promise<void> {
  const missing = missingForQemu()
  if (missing !== null) throw new Error(missing)
  const dir = await scratchFolder()
  const dht = await PrivateDht.start()
  const host = await Host.create({ home: join(dir, 'home'), name: 'host', bootstrap: dht.address })
  const machine = join(dir, 'machine')
  await buildGuest(machine, { memory: values.memory, diskMiB: 64, marker: 'bench' })
  await host.add(machine, { name: 'vm', vm: 'qemu' })
  await host.run('vm')
  await ask(host, 'uptime', 'uptime')
  const rows = await rounds(host, 'folder')
  await host.suspend('vm')
  await host.resume('vm', { policy: 'demand', force: true, to: join(dir, 'again'), cwd: dir })
  rows.push(...(await rounds(host, 'served')))
  await host.stop('vm')
  await host.close()
  await dht.stop()
  if (values.json) for (const row of rows) console.log(JSON.stringify(row))
  else {
    console.log(thisMachine())
    for (const { files, round, paused, took, storedMb } of rows) {
      console.log(
        `${files} ${round}: stood still for ${paused.toFixed(2)} s of ${took.toFixed(2)} s, ` +
          `${storedMb.toFixed(0)} MB stored`
      )
    }
  }
  cleanUp()
}

await main()
