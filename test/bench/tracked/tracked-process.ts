// A suspend that is told what is dirty: tracked-process.js DHT REPO RANGES, a file of JSON; without it, it scans.
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Host } from '../../../lib/index.js'
import { timedCall } from '../timed-call.js'
import type { Ranges } from './dirty-ranges.js'
import { withDirty } from './dirty-suspend.js'

const [bootstrap = '', repo = '', path] = process.argv.slice(2)
const ranges: Ranges | null = path === undefined ? null : JSON.parse(await readFile(path, 'utf8'))
const host = await Host.open({ home: join(repo, 'home'), bootstrap })
const { call } = await timedCall(async () =>
  host.suspend('image', ranges === null ? {} : withDirty(ranges))
)
console.log(JSON.stringify(call))
await host.close()
