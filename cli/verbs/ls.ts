import type { Command } from 'commander'
import { verb } from '../context.js'
import { stateText } from '../text.js'

export function lsVerb(program: Command): void {
  const command = program
    .command('ls')
    .description('list the parcels here')
    .addHelpText('after', '\nExample: hyperparcel ls --json')
  verb(command, async ({ terminal, client }) => {
    const { parcels, problems } = await client.call('ls', {})
    const width = Math.max(0, ...parcels.map(({ name }) => name.length))
    for (const parcel of parcels) {
      const { name, driver, versions } = parcel
      const count = versions === 1 ? '1 version' : `${versions} versions`
      const text = `${name.padEnd(width)}  ${driver.padEnd(6)}  ${count}, ${stateText(parcel)}`
      terminal.result('parcel', parcel, text)
    }
    for (const problem of problems) terminal.note(`problem: ${problem}`)
    if (parcels.length === 0 && problems.length === 0)
      terminal.note("no parcels yet: 'hyperparcel add' or 'join' one")
  })
}
