import { Argument, type Command } from 'commander'
import { CONSISTENCIES, type Consistency } from '../../lib/client.js'
import { verb } from '../context.js'
import { days } from '../options.js'

const TEXT: Record<Consistency, (count: number) => string> = {
  available: () => 'a resume uses what is here, and says who was not heard',
  latest: (count) =>
    `a resume waits for every host that was heard in ${count} days, or its --timeout`,
  lease: () => 'one host at a time runs it, on every host'
}

export function consistencyVerb(program: Command): void {
  const command = program
    .command('consistency')
    .description('how strict a resume of a parcel is on this host, or on all')
    .argument('<name>', 'the parcel')
    .addArgument(new Argument('[how]', 'a new choice').choices(CONSISTENCIES))
    .option('--days <count>', 'with latest: wait for hosts that were heard in so many days', days)
    .addHelpText(
      'after',
      `
available: what is here is used at once; who was not heard may have newer versions, and is named.
latest: hosts that were heard lately are waited for, as long as --timeout of 'resume' says.
lease: for all its hosts, one at a time runs it; 'hyperparcel lease' shows which. Its holder ends that by
choosing another.
Example: hyperparcel consistency work latest --days 3`
    )
  verb(command, async ({ terminal, client }, self) => {
    const [name = ''] = self.args
    const how = CONSISTENCIES.find((choice) => choice === self.args[1])
    const { days: count } = self.opts<{ days?: number }>()
    const result = await client.call('consistency', {
      name,
      ...(how === undefined ? {} : { consistency: how }),
      ...(count === undefined ? {} : { days: count })
    })
    const text = `${name}, ${result.consistency}: ${TEXT[result.consistency](result.days)}`
    terminal.result('consistency', { name, ...result }, text)
  })
}
