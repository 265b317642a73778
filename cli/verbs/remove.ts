import type { Command } from 'commander'
import { verb } from '../context.js'

export function removeVerb(program: Command): void {
  const command = program
    .command('remove')
    .description('take a parcel off this host: its logs and keys, not its folder')
    .argument('<name>', 'the parcel')
    .option('--force', 'lose versions that no other host is known to have', false)
    .addHelpText(
      'after',
      `
Other hosts keep what they have, and this one stays a member: an owner can revoke it. To come back it
needs another invite.
Example: hyperparcel remove work`
    )
  verb(command, async ({ terminal, client }, self) => {
    const [name = ''] = self.args
    const { force } = self.opts<{ force: boolean }>()
    await client.call('remove', { name, force })
    terminal.result('removed', { name }, `${name} is not on this host any more; its folder stays`)
  })
}
