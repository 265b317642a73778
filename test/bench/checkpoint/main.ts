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

/** So long the guest counts for, hundredths of a second: a checkpoint that comes by itself takes as long. */
const SPIN = 2_000

interface Row {
  files: 'folder' | 'served'
  round: number
  /** s: that the machine stood still, and that the checkpoint took. */
  paused: number
  took: number
  storedMb: number
}

/** Types something on the guest's console; returns what it answers after the word that this begins with. */
async function ask(host: Host, command: string, word: string): Promise<string> {
  const socket = await host.attach('vm')
  let text = ''
  socket.on('data', (part: Buffer) => (text += part.toString('latin1')))
  // A terminal is shown what was printed before.
  await setTimeout(100)
  text = ''
  socket.write(`${command}\n`)
  const answer = new RegExp(`^${word} (\\S+)\\s*$`, 'm')
  while (!answer.test(text)) await once(socket, 'data')
  socket.destroy()
  return answer.exec(text)?.[1] ?? ''
}

/** Hundredths of a second, by the guest's own clock, that it counts for, after it has filled some memory. */
async function spin(host: Host, count: number): Promise<number> {
  await ask(host, `fill ${values.fill}`, 'filled')
  return Number(await ask(host, `spin ${count}`, 'spun'))
}

/** How much longer the guest takes for the same work while a checkpoint is made by itself, each time. */
async function felt(host: Host): Promise<number[]> {
  const trial = 100_000
  const count = Math.round((trial * SPIN) / (await spin(host, trial)))
  const ratios: number[] = []
  for (let round = 0; round < Number(values.rounds); round++) {
    const alone = await spin(host, count)
    const { length } = await host.log('vm')
    await host.checkpoints.set('vm', { every: 5_000 })
    const beside = await spin(host, count)
    // One that was begun ends.
    for (;;) {
      if ((await host.log('vm')).length > length) break
      await setTimeout(200)
    }
    await host.checkpoints.set('vm', { every: null })
    await setTimeout(2_000)
    ratios.push(beside / alone)
  }
  return ratios
}

async function rounds(host: Host, files: Row['files']): Promise<Row[]> {
  const rows: Row[] = []
  for (let round = 1; round <= Number(values.rounds); round++) {
    await ask(host, `fill ${values.fill}`, 'filled')
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
  // It is up.
  await ask(host, '', 'tick \\d+ uptime')
  const rows = await rounds(host, 'folder')
  await host.suspend('vm')
  await host.resume('vm', { policy: 'demand', force: true, to: join(dir, 'again'), cwd: dir })
  rows.push(...(await rounds(host, 'served')))
  const ratios = await felt(host)
  await host.stop('vm')
  await host.close()
  await dht.stop()
  if (values.json) {
    for (const row of rows) console.log(JSON.stringify(row))
    console.log(JSON.stringify({ workBesideACheckpoint: ratios }))
  } else {
    console.log(thisMachine())
    for (const { files, round, paused, took, storedMb } of rows) {
      console.log(
        `${files} ${round}: stood still for ${paused.toFixed(2)} s of ${took.toFixed(2)} s, ` +
          `${storedMb.toFixed(0)} MB stored`
      )
    }
    const all = ratios.map((ratio) => ratio.toFixed(3)).join(', ')
    console.log(`the guest's work beside one that comes by itself ÷ alone: ${all}`)
  }
  cleanUp()
}

await main()
