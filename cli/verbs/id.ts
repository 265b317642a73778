import type { Command } from 'commander'
import { homeDir, openHome } from '../../lib/index.js'
import { verb } from '../context.js'

export function idVerb(program: Command): void {
  verb(
    program.command('id').description('show who this host is'),
    async ({ terminal, options }) => {
      const { identity, name, dir } = await openHome(homeDir(options.home))
      const id = identity.publicKey.toString('hex')
      terminal.result('host', { id, name, home: dir }, `${name}  ${id}\n${dir}`)
    }
  )
}
