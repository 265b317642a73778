import type { Command } from 'commander'
import { follow, verb } from '../context.js'
import { seconds } from '../options.js'

export function joinVerb(program: Command): void {
  const command = program
    .command('join')
    .description('join a parcel that another host invited this one to')
    .argument('<invite>', 'the invite; - reads it from standard input')
    .option('--name <name>', 'what to call the parcel here')
    .option('--timeout <seconds>', 'how long to wait for the inviting host', seconds, 60)
    .addHelpText('after', '\nExample: hyperparcel join - < invite.txt')
  verb(command, async (context, self) => {
    const [argument = ''] = self.args
    const { name, timeout } = self.opts<{ name?: string; timeout: number }>()
    const invite = argument === '-' ? await standardInput() : argument
    const parcel = await context.client.call(
      'join',
      { invite, timeout: timeout * 1_000, ...(name === undefined ? {} : { name }) },
      follow(context)
    )
    context.terminal.result(
      'parcel',
      parcel,
      `joined ${parcel.name} (${parcel.driver}); 'hyperparcel resume ${parcel.name}' brings it here`
    )
  })
}

async function standardInput(): Promise<string> {
  const parts: Buffer[] = []
  for await (const part of process.stdin) parts.push(Buffer.from(part))
  return Buffer.concat(parts).toString().trim()
}
