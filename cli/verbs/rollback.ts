import type { Command } from 'commander'
import { verb } from '../context.js'
import { shortId } from '../text.js'

export function rollbackVerb(program: Command): void {
  const command = program
    .command('rollback')
    .description('make a new version that is what an earlier one was; nothing is lost')
    .argument('<name>', 'the parcel')
    .argument('<version>', 'the beginning of its id, a tag or a branch')
    .option('-m, --message <text>', 'a word about this version', '')
    .addHelpText(
      'after',
      `
The folder here stays as it is until the next 'hyperparcel resume'.
Example: hyperparcel rollback work before-upgrade`
    )
  verb(command, async ({ terminal, client }, self) => {
    const [name = '', version = ''] = self.args
    const { message } = self.opts<{ message: string }>()
    const made = await client.call('rollback', { name, version, message })
    terminal.result(
      'version',
      made,
      `${name} ${shortId(made.id)} ${made.message}: 'hyperparcel resume ${name}' brings it here`
    )
  })
}
