import type { Command } from 'commander'
import { verb } from '../context.js'
import { size } from '../options.js'
import { bytes } from '../terminal.js'

export function scrubVerb(program: Command): void {
  const command = program
    .command('scrub')
    .description('how much is read in the background to find what rots on the disk')
    .option('--quota <size>', "bytes a day, such as 10G, or 'none' for no scrub", size)
    .addHelpText(
      'after',
      `
The daemon reads a little every minute, and begins again when it is through. What is damaged is fetched
again, as by 'hyperparcel verify'; 'hyperparcel status' names it.
Example: hyperparcel scrub --quota 10G`
    )
  verb(command, async ({ terminal, client }, self) => {
    const { quota } = self.opts<{ quota?: number }>()
    const info = await client.call(
      'scrub',
      quota === undefined ? {} : { quota: quota === Infinity ? 0 : quota }
    )
    const share = info.quota === 0 ? 'no scrub' : `${bytes(info.quota)} a day`
    const done =
      info.done === null
        ? 'not through yet'
        : `through last on ${new Date(info.done).toISOString().slice(0, 10)}`
    terminal.result('scrub', info, `${share}, ${done}, ${info.damaged} damaged blocks so far`)
  })
}
