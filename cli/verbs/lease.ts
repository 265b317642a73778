import type { Command } from 'commander'
import { ParcelError, type LeaseInfo } from '../../lib/client.js'
import { follow, verb } from '../context.js'
import { seconds } from '../options.js'
import { leaseText } from '../text.js'

export function leaseVerb(program: Command): void {
  const command = program
    .command('lease')
    .description('who may run a parcel with a lease; take it, or give it away')
    .argument('<name>', 'the parcel')
    .option('--take', 'get it for this host', false)
    .option(
      '--force',
      'get it without asking anybody: what its holder makes is a second head',
      false
    )
    .option('--to <host>', 'give it to another member')
    .option('--timeout <seconds>', 'how long to ask for it', seconds, 60)
    .addHelpText(
      'after',
      `
'hyperparcel consistency N lease' begins with it. A resume gets the lease by itself: from its holder,
which gives it when the parcel is not in use there, or, when that does not answer, from a majority of
the hosts that may run it; of two, a vault is their witness. No clock ends a lease.
Examples: hyperparcel lease work
          hyperparcel lease work --to desk`
    )
  verb(command, async (context, self) => {
    const { client, terminal } = context
    const [name = ''] = self.args
    const { take, force, to, timeout } = self.opts<{
      take: boolean
      force: boolean
      to?: string
      timeout: number
    }>()
    const say = (lease: LeaseInfo | null): void =>
      terminal.result(
        'lease',
        { name, ...(lease ?? { holder: null }) },
        `${name}: ${leaseText(lease)}`
      )
    if (to !== undefined) {
      if (take || force) throw new ParcelError('USAGE', 'either --to or --take')
      say(await client.call('lease-give', { name, host: to }))
    } else if (take || force) {
      const wanted = { name, timeout: timeout * 1_000, isForced: force }
      say(await client.call('lease-take', wanted, follow(context)))
    } else {
      say((await client.call('lease', { name })).lease)
    }
  })
}
