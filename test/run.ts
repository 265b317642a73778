// Runs every test file and says at the end which tests were left out, and why.
//   node dist/test/run.js [--long] [part of a path …]
import { readdirSync } from 'node:fs'
import { join, relative } from 'node:path'
import { run } from 'node:test'
import { spec } from 'node:test/reporters'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { long: { type: 'boolean', default: false } }
})
const root = fileURLToPath(new URL('.', import.meta.url))
const suffix = values.long ? '.long.js' : '.test.js'
const files = readdirSync(root, { recursive: true, encoding: 'utf8' })
  .filter((path) => path.endsWith(suffix))
  .filter((path) => positionals.length === 0 || positionals.some((part) => path.includes(part)))
  .map((path) => join(root, path))
  .toSorted()

if (files.length === 0) {
  console.error('no test file fits')
  process.exit(2)
}

const leftOut: string[] = []
// Two at a time: most tests have daemons and guests of their own.
const stream = run({ files, concurrency: 2, timeout: values.long ? 21_600_000 : 240_000 })
stream.on('test:fail', () => (process.exitCode = 1))
stream.on('test:pass', (event) => {
  if (event.skip === undefined) return
  leftOut.push(`${relative(root, event.file ?? '')}: ${event.name}: ${String(event.skip)}`)
})
stream.once('end', () => {
  for (const line of leftOut) console.log(`left out  ${line}`)
  if (leftOut.length === 0) console.log('nothing was left out')
  const mustRunAll = (process.env['HYPERPARCEL_TEST_ALL'] ?? '') !== ''
  if (mustRunAll && leftOut.length > 0) {
    console.error(`HYPERPARCEL_TEST_ALL is set and ${leftOut.length} tests were left out`)
    process.exitCode = 1
  }
})
stream.compose(new spec()).pipe(process.stdout)
