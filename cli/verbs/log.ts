import type { Command } from 'commander'
import { verb } from '../context.js'
import { versionLine } from '../text.js'

export function logVerb(program: Command): void {
  const command = program
    .command('log')
    .description('list the versions of a parcel, newest first')
    .argument('<name>', 'the parcel')
    .addHelpText('after', "\nA '*' marks a head; more than one is a conflict.")
  verb(command, async ({ terminal, client }, self) => {
    const [name = ''] = self.args
    const versions = await client.call('log', { name })
    for (const version of versions) {
      terminal.result('version', version, `${version.isHead ? '*' : ' '} ${versionLine(version)}`)
    }
    if (versions.length === 0)
      terminal.note(`no version of ${name} yet: 'hyperparcel suspend ${name}'`)
  })
}
