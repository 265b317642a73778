import type { Command } from 'commander'
import type { HostEvent } from '../../lib/client.js'
import { follow, verb } from '../context.js'
import { whole } from '../options.js'
import { timeText } from '../text.js'
import { ended } from './transfers.js'

export function eventsVerb(program: Command): void {
  const command = program
    .command('events')
    .description(
      'what happened here lately: versions, connections, conflicts, stalls, remote suspends'
    )
    .argument('[name]', 'only of this parcel')
    .option('-f, --follow', 'then each that happens, until Ctrl-C', false)
    .option('--since <number>', 'only those after this one', whole, 0)
    .addHelpText(
      'after',
      `
The last 1,000 are kept. With --json each is one object a line, with a 'number' to go on from.
Example: hyperparcel events --follow --json`
    )
  verb(command, async (context, self) => {
    const [name] = self.args
    const { follow: isFollowed, since } = self.opts<{ follow: boolean; since: number }>()
    const wanted = name === undefined ? {} : { name }
    const show = (event: HostEvent): void => {
      const { type, ...rest } = event
      const line = `${timeText(event.at)}  ${event.parcel}: ${event.text}`
      context.terminal.result('event', { event: type, ...rest }, line)
    }
    await context.client
      .each('events', { ...wanted, since, isFollowed }, show, follow(context))
      .catch((error: unknown) => {
        if (!isFollowed || !context.signal.aborted) throw error
        ended()
      })
  })
}
