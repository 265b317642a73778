import type { Command } from 'commander'
import { follow, verb } from '../context.js'
import { seconds } from '../options.js'
import { ask } from '../prompt.js'

export function joinVerb(program: Command): void {
  const command = program
    .command('join')
    .description('join a parcel that another host invited this one to')
    .argument(
      '[invite]',
      'the code or the link; without it, it is asked for, or read from standard input'
    )
    .option('--name <name>', 'what to call the parcel here')
    .option('--timeout <seconds>', 'how long to wait for the inviting host', seconds, 60)
    .addHelpText(
      'after',
      '\nWhat stands in the argument list others can see: better type it when asked.\nExample: hyperparcel join < invite.txt'
    )
  verb(command, async (context, self) => {
    const [argument = ''] = self.args
    const { name, timeout } = self.opts<{ name?: string; timeout: number }>()
    const isGiven = argument !== '' && argument !== '-'
    const invite = isGiven ? argument : (await ask('Code or link of the invite')).trim()
    const parcels = await context.client.call(
      'join',
      { invite, timeout: timeout * 1_000, ...(name === undefined ? {} : { name }) },
      follow(context)
    )
    for (const parcel of parcels) {
      const text = `joined ${parcel.name} (${parcel.driver}); 'hyperparcel resume ${parcel.name}' brings it here`
      context.terminal.result('parcel', parcel, text)
    }
  })
}
