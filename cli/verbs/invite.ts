import { InvalidArgumentError, type Command } from 'commander'
import { verb } from '../context.js'
import { duration } from '../terminal.js'

export function inviteVerb(program: Command): void {
  const command = program
    .command('invite')
    .description('let one other host into a parcel')
    .argument('<name>', 'the parcel')
    .option('--for <minutes>', 'how long the invite is good', minutes, 10)
    .addHelpText(
      'after',
      `
Whoever uses the invite first becomes a member: hand it over on a channel you trust, and leave this
host online until it is used.`
    )
  verb(command, async ({ terminal, client }, self) => {
    const [name = ''] = self.args
    const { for: length } = self.opts<{ for: number }>()
    const { invite, expires } = await client.call('invite', { name, ttl: length * 60_000 })
    terminal.result('invite', { name, invite, expires }, invite)
    if (!terminal.isJson) {
      terminal.note(
        `good for one host and ${duration(expires - Date.now())}: 'hyperparcel join' it there`
      )
    }
  })
}

function minutes(text: string): number {
  const value = Number(text)
  if (Number.isFinite(value) && value > 0 && value <= 1_440) return value
  throw new InvalidArgumentError('a number of minutes, at most a day')
}
