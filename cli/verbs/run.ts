import type { Command } from 'commander'
import { verb } from '../context.js'

export function runVerb(program: Command): void {
  const command = program
    .command('run')
    .description('start a machine from its folder')
    .argument('<name>', 'the parcel')
    .option('--cold', 'boot it anew and forget the memory it was suspended with', false)
    .addHelpText(
      'after',
      "\nIt runs on when this command has ended: 'hyperparcel attach' shows its console." +
        '\nExamples: hyperparcel run work\n          hyperparcel run work --cold'
    )
  verb(command, async ({ terminal, client }, self) => {
    const [name = ''] = self.args
    const { cold } = self.opts<{ cold: boolean }>()
    const { screen } = await client.call('run', { name, cold })
    const where = screen === null ? '' : `, screen ${screen}`
    terminal.result(
      'running',
      { name, screen },
      `${name} runs${where}; 'hyperparcel attach ${name}' is its console`
    )
  })
}
