import { Argument, InvalidArgumentError, type Command } from 'commander'
import { verb } from '../context.js'

export function copiesVerb(program: Command): void {
  const command = program
    .command('copies')
    .description('how many other hosts are to have a version before this one can be without')
    .argument('<name>', 'the parcel')
    .addArgument(new Argument('[count]', 'a new number').argParser(count))
    .addHelpText(
      'after',
      `
A version that is on so many others, vaults among them, is 'safe to leave'; 'suspend --wait' waits
for that. Each host has its own number; the default is 1.
Example: hyperparcel copies work 2`
    )
  verb(command, async ({ terminal, client }, self) => {
    const [name = ''] = self.args
    const wanted: unknown = self.processedArgs[1]
    const { copies } = await client.call(
      'copies',
      typeof wanted === 'number' ? { name, count: wanted } : { name }
    )
    const hosts = copies === 1 ? '1 other host' : `${copies} other hosts`
    terminal.result('copies', { name, copies }, `${name}: safe to leave when it is on ${hosts}`)
  })
}

function count(text: string): number {
  const value = Number(text)
  if (/^\d+$/.test(text) && value <= 64) return value
  throw new InvalidArgumentError('a number of hosts, at most 64')
}
