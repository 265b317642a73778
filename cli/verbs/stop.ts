import type { Command } from 'commander'
import { verb } from '../context.js'

export function stopVerb(program: Command): void {
  const command = program
    .command('stop')
    .description('end a machine at once, without a version')
    .argument('<name>', 'the parcel')
    .option('--force', 'the same: it never waits for the guest', false)
    .addHelpText(
      'after',
      '\nIts memory is lost; its disks stay as they are, as after a power cut.\nExample: hyperparcel stop work'
    )
  verb(command, async ({ terminal, client }, self) => {
    const [name = ''] = self.args
    await client.call('stop', { name })
    terminal.result('stopped', { name }, `${name} is off`)
  })
}
