import type { Command } from 'commander'
import { follow, verb } from '../context.js'
import { seconds } from '../options.js'
import { bytes } from '../terminal.js'

export function pruneVerb(program: Command): void {
  const command = program
    .command('prune')
    .description('give back the space of versions that were forgotten')
    .argument('<name>', 'the parcel')
    .option(
      '--timeout <seconds>',
      'how long other hosts may take to say what they have',
      seconds,
      10
    )
    .addHelpText(
      'after',
      `
A version goes from this host when as many others as 'hyperparcel copies' says have signed that they
hold it, and say so again now; what may not go stays, with exit 5. With 0 copies it goes in any case,
from vaults too. What kept versions have in common with it is copied on. It can be interrupted.
Example: hyperparcel prune work`
    )
  verb(command, async (context, self) => {
    const { client, terminal } = context
    const [name = ''] = self.args
    const { timeout } = self.opts<{ timeout: number }>()
    const wanted = { name, timeout: timeout * 1_000 }
    const { versions, waiting, moved } = await client.call('prune', wanted, follow(context))
    const count = versions.length === 1 ? '1 version is' : `${versions.length} versions are`
    const copied = moved === 0 ? '' : `; ${bytes(moved)} of what stays were copied`
    const left =
      waiting === 0 ? '' : `; the space of ${waiting} more is too little to copy the rest for`
    terminal.result(
      'pruned',
      { name, versions, waiting, moved },
      `${name}: ${count} not on this host any more${copied}${left}`
    )
  })
}
