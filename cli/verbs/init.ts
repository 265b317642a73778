import type { Command } from 'commander'
import { homeDir } from '../../lib/client.js'
import { follow, library, verb } from '../context.js'
import { seconds } from '../options.js'
import { ask } from '../prompt.js'

export function initVerb(program: Command): void {
  const command = program
    .command('init')
    .description('make this a host: an identity and an empty store')
    .option('--name <name>', 'how other hosts see it (default: the name of this computer)')
    .option(
      '--phrase',
      'be the host of a recovery phrase of 24 words again, which is asked for',
      false
    )
    .option('--timeout <seconds>', 'how long to wait for a host that has its parcels', seconds, 60)
    .addHelpText(
      'after',
      `
With --phrase every parcel comes back that some host or vault in reach has; of a host that is still
there no second one should run: revoke it if it was stolen.
Example: hyperparcel init --name laptop`
    )
  verb(command, async (context, self) => {
    const { terminal, options, client } = context
    const { name, phrase, timeout } = self.opts<{
      name?: string
      phrase: boolean
      timeout: number
    }>()
    const { createHome, fingerprint, seedFrom } = await library()
    const seed = phrase ? seedFrom(await ask('The 24 words', { isHidden: true })) : null
    const home = await createHome(homeDir(options.home), name, seed)
    const id = home.identity.publicKey.toString('hex')
    terminal.result(
      'host',
      {
        id,
        name: home.name,
        words: fingerprint(home.identity.publicKey),
        home: home.dir,
        lock: 'none'
      },
      `${home.name} is a host now: ${id}\n${home.dir}/identity.key is its secret: 'hyperparcel phrase' prints it as words to keep on paper`
    )
    if (!phrase) return
    const parcels = await client.call('recover', { timeout: timeout * 1_000 }, follow(context))
    for (const parcel of parcels) {
      const text = `${parcel.name} is back (${parcel.driver}): 'hyperparcel resume ${parcel.name}' brings it here`
      terminal.result('parcel', parcel, text)
    }
  })
}
