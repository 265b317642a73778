import type { Command } from 'commander'
import { verb } from '../context.js'

export function wakeVerb(program: Command): void {
  const command = program
    .command('wake')
    .description('wake another host on this network; without one, which can be woken')
    .argument('[host]', 'its name')
    .argument('[address]', "its hardware address, from now on; 'off': it is not woken any more")
    .addHelpText(
      'after',
      `
A host that is asleep hears when its firmware is set to Wake-on-LAN. One whose address is known is woken
by itself when a version is suspended that is likely to be wanted there, or with 'suspend --to HOST'.
Examples: hyperparcel wake desk 00:11:22:aa:bb:cc
          hyperparcel wake desk`
    )
  verb(command, async ({ client, terminal }, self) => {
    const [host, address] = self.args
    if (host === undefined) {
      const { hosts } = await client.call('wakes', {})
      for (const each of hosts) {
        terminal.result(
          'wake',
          each,
          `${each.name}: ${each.mac ?? 'it is not known how to wake it'}`
        )
      }
      if (hosts.length === 0) terminal.note('no other host yet')
      return
    }
    if (address !== undefined) {
      const set = await client.call('wake-set', { host, mac: address === 'off' ? null : address })
      const how = set.mac === null ? 'is not woken any more' : `is woken at ${set.mac}`
      terminal.result('wake', set, `${set.name} ${how}`)
      return
    }
    const woken = await client.call('wake', { host })
    terminal.result('wake', woken, `${woken.name}: woken, if it listens`)
  })
}
