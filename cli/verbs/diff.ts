import type { Command } from 'commander'
import type { Change } from '../../lib/client.js'
import { follow, verb } from '../context.js'
import { seconds } from '../options.js'
import { bytes } from '../terminal.js'
import { rangesText, shortId } from '../text.js'

export function diffVerb(program: Command): void {
  const command = program
    .command('diff')
    .description('show which files, and which ranges of them, a version changed')
    .argument('<name>', 'the parcel')
    .argument('<from>', 'a version: the beginning of its id, a tag or a branch')
    .argument('[to]', 'another (default: the newest)')
    .option('--timeout <seconds>', 'how long to wait for hosts that do not answer', seconds, 60)
    .addHelpText(
      'after',
      `
Ranges are OFFSET+LENGTH in bytes, by chunks of 64 KiB. Times alone are no change.
Example: hyperparcel diff work before-upgrade`
    )
  verb(command, async (context, self) => {
    const [name = '', from = '', to] = self.args
    const { timeout } = self.opts<{ timeout: number }>()
    const what = { name, from, timeout: timeout * 1_000 }
    let count = 0
    const onChange = (change: Change): void => {
      count++
      context.terminal.result('change', change, changeLine(change))
    }
    const between = await context.client.each(
      'diff',
      to === undefined ? what : { ...what, to },
      onChange,
      follow(context)
    )
    const ids = `${shortId(between.from.id)} to ${shortId(between.to.id)}`
    const summary = { from: between.from.id, to: between.to.id, changes: count }
    const text = count === 0 ? `no changes from ${ids}` : `${count} changed from ${ids}`
    context.terminal.result('diff', summary, text)
  })
}

function changeLine({ path, kind, fileType: type, size: [before, after], ranges }: Change): string {
  const what = type === 'file' ? path : `${path} (${type})`
  if (kind === 'added') return `+ ${what}${type === 'file' ? `  ${bytes(after)}` : ''}`
  if (kind === 'removed') return `- ${what}`
  const size = before === after ? '' : `  ${bytes(before)} → ${bytes(after)}`
  const where = ranges.length === 0 ? '  mode or target' : `  ${rangesText(ranges)}`
  return `~ ${what}${size}${where}`
}
