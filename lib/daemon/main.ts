import { createWriteStream } from 'node:fs'
import { text } from 'node:stream/consumers'
import { ParcelError } from '../errors.js'
import { idleLimit, runDaemon } from './daemon.js'

/**
 * The daemon as a detached process that a verb starts. Standard input has the identity's passphrase,
 * where there is one. Descriptor 3 takes one line: that it
 * answers now, or why it cannot.
 */
const ready = createWriteStream('', { fd: 3 })
const abort = new AbortController()
for (const name of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) {
  process.on(name, () => abort.abort())
}
// Whoever started us may be gone before it has read the line.
ready.on('error', () => {})

try {
  const passphrase = await text(process.stdin)
  await runDaemon({
    ...(passphrase === '' ? {} : { passphrase }),
    home: process.argv[2] ?? '',
    idle: idleLimit(),
    signal: abort.signal,
    onReady: () => ready.end('{}\n')
  })
  process.exit(0)
} catch (error) {
  const { code, message } = ParcelError.from(error)
  if (!ready.writableEnded)
    ready.end(`${JSON.stringify({ code, message })}\n`, () => process.exit(1))
  else process.exit(1)
}
