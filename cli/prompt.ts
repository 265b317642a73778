import { text } from 'node:stream/consumers'
import { ParcelError } from '../lib/client.js'

let lines: string[] | null = null

/** Asks for the passphrase of a home whose daemon has to be started; undefined: nobody is there to ask. */
export function passphraseAsker(): (() => Promise<string>) | undefined {
  return process.stdin.isTTY ? () => ask('Passphrase of this host', { isHidden: true }) : undefined
}

/**
 * What a person types at a prompt on standard error; where no terminal is, the next line of standard
 * input that has something in it. `isHidden`: nothing of it is shown. Throws USAGE when there is no line.
 */
export async function ask(prompt: string, { isHidden = false } = {}): Promise<string> {
  if (!process.stdin.isTTY) return nextLine(prompt)
  const input = {
    prompt: `${prompt}: `,
    silent: isHidden,
    input: process.stdin,
    output: process.stderr
  }
  const { read } = await import('read')
  return read(input).catch((error: unknown) => {
    throw new ParcelError('INTERRUPTED', 'interrupted, nothing half-done is left', error)
  })
}

async function nextLine(prompt: string): Promise<string> {
  lines ??= (await text(process.stdin)).split(/\r?\n/)
  for (let line = lines.shift(); line !== undefined; line = lines.shift()) {
    if (line.trim() !== '') return line
  }
  throw new ParcelError('USAGE', `standard input has no line for: ${prompt.toLowerCase()}`)
}
