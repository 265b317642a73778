import type { Readable } from 'node:stream'
import { ParcelError } from './errors.js'

const MAX_LINE = 1024 * 1024

/** Cuts a stream into lines and parses each as JSON. Throws INTEGRITY for what is not, or is too long. */
export async function* jsonLines(stream: Readable): AsyncGenerator {
  let rest = ''
  stream.setEncoding('utf8')
  for await (const text of stream) {
    const lines = (rest + String(text)).split('\n')
    rest = lines.pop() ?? ''
    if (rest.length > MAX_LINE) throw new ParcelError('INTEGRITY', 'a message is too long')
    for (const line of lines) if (line !== '') yield parse(line)
  }
  if (rest !== '') yield parse(rest)
}

function parse(line: string): unknown {
  try {
    return JSON.parse(line)
  } catch (error) {
    throw new ParcelError('INTEGRITY', 'a message is not JSON', error)
  }
}
