// One step of a suspend bench in a process of its own, so that all it takes can be counted.
//   ours-process.js init DHT REPO FOLDER | suspend DHT REPO | suspend-plain DHT REPO | resume DHT REPO TO
// It prints what the call alone took, which is what a daemon that is up would take.
import { join } from 'node:path'
import { Host } from '../../../lib/index.js'
import { timedCall } from '../timed-call.js'

const [step = '', address, repo, path] = process.argv.slice(2)
if (address === undefined || repo === undefined) throw new Error('no home')
const options = { home: join(repo, 'home'), bootstrap: address }
const host =
  step === 'init' ? await Host.create({ ...options, name: 'bench' }) : await Host.open(options)

async function run(): Promise<void> {
  switch (step) {
    case 'init':
      await host.add(path ?? '', { name: 'image', vm: 'folder' })
      return
    case 'suspend':
    case 'suspend-plain': {
      const { skipped } = await host.suspend('image', { compress: step === 'suspend' })
      if (skipped.length > 0) throw new Error('something was skipped')
      return
    }
    case 'resume':
      await host.resume('image', { to: path ?? '' })
      return
    default:
      throw new Error(`no step ${step}`)
  }
}

const { call } = await timedCall(run)
console.log(JSON.stringify(call))
await host.close()
// As the daemon ends: a library's timer would keep the process for another half second.
process.exit(0)
