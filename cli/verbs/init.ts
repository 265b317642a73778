import type { Command } from 'commander'
import { createHome, homeDir } from '../../lib/index.js'
import { verb } from '../context.js'

export function initVerb(program: Command): void {
  const command = program
    .command('init')
    .description('make this a host: an identity and an empty store')
    .option('--name <name>', 'how other hosts see it (default: the name of this computer)')
    .addHelpText('after', '\nExample: hyperparcel init --name laptop')
  verb(command, async ({ terminal, options }, self) => {
    const { name } = self.opts<{ name?: string }>()
    const home = await createHome(homeDir(options.home), name)
    const id = home.identity.publicKey.toString('hex')
    terminal.result(
      'host',
      { id, name: home.name, home: home.dir },
      `${home.name} is a host now: ${id}\n${home.dir}/identity.key is its secret: keep a copy in a safe place`
    )
  })
}
