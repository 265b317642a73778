import { once } from 'node:events'
import type { Command } from 'commander'
import { library, verb } from '../context.js'

/** Ctrl-] */
const DETACH = 0x1d

export function attachVerb(program: Command): void {
  const command = program
    .command('attach')
    .description('connect this terminal to the console of a running machine')
    .argument('<name>', 'the parcel')
    .addHelpText(
      'after',
      '\nCtrl-] detaches; the machine runs on. With a pipe, it ends with the input.' +
        '\nExamples: hyperparcel attach work\n          echo uptime | hyperparcel attach work'
    )
  verb(command, async ({ terminal, client, signal }, self) => {
    const [name = ''] = self.args
    const { runDir } = await client.call('attach', { name })
    const { MachineProcess } = await library()
    const console = await new MachineProcess(runDir).console()
    const { stdin, stdout } = process
    const isTerminal = stdin.isTTY
    if (isTerminal) {
      stdin.setRawMode(true)
      terminal.note(`attached to ${name}; Ctrl-] detaches\r`)
    }
    const detach = (): void => void console.end()
    signal.addEventListener('abort', detach, { once: true })
    const closed = once(console, 'close')
    console.pipe(stdout, { end: false })
    stdin.on('data', (bytes: Buffer) => {
      const at = isTerminal ? bytes.indexOf(DETACH) : -1
      console.write(at < 0 ? bytes : bytes.subarray(0, at))
      if (at >= 0) detach()
    })
    stdin.once('end', detach)
    await closed
    if (isTerminal) stdin.setRawMode(false)
    stdin.pause()
    stdin.unref()
  })
}
