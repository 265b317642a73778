import type { Command } from 'commander'
import { verb } from '../context.js'

export function renameVerb(program: Command): void {
  const command = program
    .command('rename')
    .description('give a parcel another name on this host; its folder stays where it is')
    .argument('<name>', 'the parcel')
    .argument('<to>', 'its new name')
    .addHelpText('after', '\nExample: hyperparcel rename work work-2026')
  verb(command, async ({ terminal, client }, self) => {
    const [name = '', to = ''] = self.args
    await client.call('rename', { name, to })
    terminal.result('renamed', { name: to, was: name }, `${name} is called ${to} on this host now`)
  })
}
