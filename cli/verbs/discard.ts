import type { Command } from 'commander'
import { follow, verb } from '../context.js'
import { seconds } from '../options.js'
import { shortId } from '../text.js'

export function discardVerb(program: Command): void {
  const command = program
    .command('discard')
    .description('throw away what this host has not suspended')
    .argument('<name>', 'the parcel')
    .option('--mounted', "what was written through 'mount' or 'nbd' instead", false)
    .option('--timeout <seconds>', 'how long to wait for hosts that do not answer', seconds, 60)
    .addHelpText(
      'after',
      `
The folder becomes again what its version was; a machine stands as it did then. What was changed
since is gone. It refuses while there is something that no version could store, such as a pipe.
Example: hyperparcel discard work`
    )
  verb(command, async (context, self) => {
    const [name = ''] = self.args
    const { mounted, timeout } = self.opts<{ mounted: boolean; timeout: number }>()
    if (mounted) {
      await context.client.call('discard-mounted', { name })
      context.terminal.result('discarded', { name }, `nothing is written to ${name} any more`)
      return
    }
    const what = { name, timeout: timeout * 1_000 }
    const version = await context.client.call('discard', what, follow(context))
    const text = `${name} is version ${shortId(version.id)} again`
    context.terminal.result('discarded', { name, version: version.id }, text)
  })
}
