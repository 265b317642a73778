import type { Command } from 'commander'
import type { PredictionInfo } from '../../lib/client.js'
import { verb } from '../context.js'

export function predictVerb(program: Command): void {
  const command = program
    .command('predict')
    .description('where a parcel will be wanted next, from what was done before at such an hour')
    .argument('<name>', 'the parcel')
    .addHelpText('after', '\nExample: hyperparcel predict work')
  verb(command, async ({ client, terminal }, self) => {
    const [name = ''] = self.args
    const prediction = await client.call('predict', { name })
    terminal.result('prediction', { name, ...prediction }, `${name}: ${text(prediction)}`)
  })
}

function text({ next, known, tried, right }: PredictionInfo): string {
  if (next.length === 0) return 'nobody knows: it has not gone on at another host yet'
  const names = next.map(({ name, chance }) => `${name} ${Math.round(100 * chance)}%`).join(', ')
  const rate = tried === 0 ? '' : `; so far right ${right} of ${tried} times`
  const from = known === 1 ? '1 hand-off' : `${known} hand-offs`
  return `next ${names} (from ${from}${rate})`
}
