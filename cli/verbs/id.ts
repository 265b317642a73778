import type { Command } from 'commander'
import { homeDir } from '../../lib/client.js'
import { library, verb } from '../context.js'

export function idVerb(program: Command): void {
  verb(
    program
      .command('id')
      .description('show who this host is')
      .addHelpText('after', '\nExample: hyperparcel id --json'),
    async ({ terminal, options }) => {
      const { fingerprint, readHome } = await library()
      const { dir, key } = await readHome(homeDir(options.home))
      const { name, publicKey: id, lock } = key
      const words = fingerprint(Buffer.from(id, 'hex'))
      const kept = { none: '', passphrase: '\nunder a passphrase', keychain: '\nin the keychain' }
      const text = `${name}  ${id}\n${words}\n${dir}${kept[lock]}`
      terminal.result('host', { id, name, words, home: dir, lock }, text)
    }
  )
}
