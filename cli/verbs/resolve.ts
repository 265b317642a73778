import type { Command } from 'commander'
import { ParcelError } from '../../lib/client.js'
import { verb } from '../context.js'
import { versionLine } from '../text.js'

export function resolveVerb(program: Command): void {
  const command = program
    .command('resolve')
    .description('settle it, on every host, when two went on from one version')
    .argument('<name>', 'the parcel')
    .option('--take <version>', 'go on from this head; the others stay in the history')
    .option('--keep-both', 'keep every head, each on a branch of its own', false)
    .option('--as <names>', "with --keep-both: the branches' names, as a,b in the order shown")
    .addHelpText(
      'after',
      `
Without an option it shows what there is to choose from. Nothing is lost either way. Branches are
called after the hosts that made their heads; 'hyperparcel resume NAME --version BRANCH' takes one,
and 'resolve NAME --take BRANCH' makes one of all branches again.
Example: hyperparcel resolve work --take 3f9a`
    )
  verb(command, async ({ terminal, client }, self) => {
    const [name = ''] = self.args
    const { take, keepBoth, as } = self.opts<{ take?: string; keepBoth: boolean; as?: string }>()
    if (take !== undefined && keepBoth) {
      throw new ParcelError('USAGE', 'either --take VERSION or --keep-both')
    }
    if (as !== undefined && !keepBoth) throw new ParcelError('USAGE', '--as goes with --keep-both')
    if (take !== undefined) {
      const made = await client.call('resolve-take', { name, version: take })
      terminal.result('version', made, `settled: ${versionLine(made)}`)
      return
    }
    if (keepBoth) {
      const names = as?.split(',') ?? []
      const { branches } = await client.call('resolve-keep', { name, names })
      for (const made of branches) terminal.result('version', made, versionLine(made))
      return
    }
    const { heads, isInConflict } = await client.call('status', { name })
    for (const head of heads) terminal.result('version', head, versionLine(head))
    if (isInConflict) {
      throw new ParcelError(
        'CONFLICT',
        'two hosts went on from one version: --take one or --keep-both'
      )
    }
    terminal.note(heads.length > 1 ? 'branches, and no conflict' : 'one head: nothing to settle')
  })
}
