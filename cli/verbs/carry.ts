import { resolve } from 'node:path'
import type { Command } from 'commander'
import { ParcelError } from '../../lib/client.js'
import { follow, verb } from '../context.js'
import { describeVault } from './vault.js'

export function carryVerb(program: Command): void {
  const command = program
    .command('carry')
    .description('take a parcel to another site on a disk: only what that site lacks')
    .argument(
      '<path>',
      'a folder on the disk, of its own; there, plugged in, all that is to be said'
    )
    .argument('[name]', 'the parcel that is to be carried')
    .option('--to <host...>', 'who it is for; default all other hosts that keep it')
    .option('--no-wait', 'do not wait until it has everything; it goes on by itself')
    .addHelpText(
      'after',
      `
The folder becomes a vault that travels: it cannot read what it carries. It remembers what the other
hosts had, and is without it. Interrupted anywhere, or pulled out, it goes on when it is there again.
A host that has opened it once opens it by itself whenever it is plugged in at the same path.
'hyperparcel vault PATH --close' ends its use before the disk is taken away.
Examples: hyperparcel carry /media/stick/parcels work --to desk     here
          hyperparcel carry /media/stick/parcels                    there`
    )
  verb(command, async (context, self) => {
    const { terminal, client } = context
    const [path = '', name] = self.args
    const { to = [], wait } = self.opts<{ to?: string[]; wait: boolean }>()
    const dir = resolve(path)
    if (name === undefined) {
      if (to.length > 0) throw new ParcelError('USAGE', '--to goes with the name of a parcel')
      const vault = await client.call('carry-take', { path: dir }, follow(context))
      terminal.result('vault', vault, `${vault.path}: all that it carries for this host is here`)
      return
    }
    const vault = await client.call('carry', { path: dir, name, to, wait }, follow(context))
    terminal.result('vault', vault, describeVault(vault))
  })
}
