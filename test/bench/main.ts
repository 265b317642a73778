// The bench: what this machine's files and programs make of us and of others, in one sitting.
//   npm run bench [-- PART…] [--runs N] [--data MB] [--tools A,B] [--huge] [--json] [--out FILE]
// It installs nothing; a tool that is not there is said to be "not present". README.md, beside this
// file, says more.
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { PrivateDht, SOFTWARE } from '../../lib/index.js'
import { dedupePart } from './dedupe/part.js'
import { filesPart } from './files/part.js'
import { thisMachine } from './machine.js'
import type { Bench, Part } from './part.js'
import { cleanUp, scratchFolder } from './scratch.js'
import { acrossPart } from './across/part.js'
import { linkPart } from './link/part.js'
import { storePart } from './store/part.js'
import { suspendPart } from './suspend/part.js'
import { trackedPart } from './tracked/part.js'
import { markdown, type Report } from './table.js'

const PARTS: readonly Part[] = [
  suspendPart,
  filesPart,
  acrossPart,
  linkPart,
  trackedPart,
  storePart,
  dedupePart
]

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    runs: { type: 'string', default: '5' },
    data: { type: 'string', default: '1100' },
    tools: { type: 'string' },
    huge: { type: 'boolean', default: false },
    json: { type: 'boolean', default: false },
    out: { type: 'string' },
    help: { type: 'boolean', default: false }
  }
})
const unknown = positionals.find((name) => !PARTS.some((part) => part.name === name))
const [runs, data] = [Number(values.runs), Number(values.data)]
if (values.help || unknown !== undefined || !(runs >= 1) || !(data >= 8)) {
  if (unknown !== undefined) console.error(`no part "${unknown}"`)
  console.error(
    'npm run bench -- [PART…] [--runs N] [--data MB, 8 or more] [--tools A,B] [--huge] [--json] [--out FILE]\n'
  )
  for (const { name, about } of PARTS) console.error(`  ${name.padEnd(10)} ${about}`)
  process.exit(values.help ? 0 : 2)
}

const named = values.tools?.split(',') ?? null
const tools = new Map<string, Report['tools'][number]>()
const scratch = await scratchFolder()
const dht = await PrivateDht.start()
const report: Report = {
  date: new Date().toISOString(),
  machine: thisMachine(),
  software: SOFTWARE,
  runs,
  tools: [],
  parts: []
}
for (const part of PARTS) {
  if (positionals.length > 0 && !positionals.includes(part.name)) continue
  const bench: Bench = {
    dir: join(scratch, part.name),
    runs,
    data,
    dht: dht.address,
    huge: values.huge,
    wants: (tool, byDefault = true) => named?.includes(tool) ?? byDefault,
    saw: (tool, version, how) => tools.set(tool, { tool, version, how }),
    say: (text) => console.error(`${part.name}: ${text}`)
  }
  await mkdir(bench.dir)
  report.parts.push(await part.run(bench))
}
await dht.stop()
cleanUp()
report.tools = [...tools.values()]

const table = markdown(report)
if (values.out !== undefined) await writeFile(values.out, table)
console.log(values.json ? JSON.stringify(report) : table)
process.exit(0)
