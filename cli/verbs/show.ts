import type { Command } from 'commander'
import type { FileInfo } from '../../lib/client.js'
import { follow, verb } from '../context.js'
import { seconds } from '../options.js'
import { bytes } from '../terminal.js'
import { versionLine } from '../text.js'

export function showVerb(program: Command): void {
  const command = program
    .command('show')
    .description('show a version and what is in it')
    .argument('<name>', 'the parcel')
    .argument('[version]', 'the beginning of its id, a tag or a branch (default: the newest)')
    .option('--timeout <seconds>', 'how long to wait for hosts that do not answer', seconds, 60)
    .addHelpText('after', '\nExample: hyperparcel show work before-upgrade')
  verb(command, async (context, self) => {
    const [name = '', version] = self.args
    const { timeout } = self.opts<{ timeout: number }>()
    const what = { name, timeout: timeout * 1_000 }
    const onFile = (file: FileInfo): void =>
      context.terminal.result('file', file, `  ${fileLine(file)}`)
    const shown = await context.client.each(
      'show',
      version === undefined ? what : { ...what, version },
      onFile,
      follow(context)
    )
    const facts = Object.entries(shown.facts).map(([fact, value]) => `  ${fact}: ${value}`)
    const lines = [versionLine(shown), ...facts, `  ${shown.files} files`]
    context.terminal.result('version', shown, lines.join('\n'))
  })
}

function fileLine({ path, fileType: type, size, mode }: FileInfo): string {
  const kind = type === 'folder' ? 'd' : type === 'symlink' ? 'l' : '-'
  const amount = type === 'file' ? bytes(size) : ''
  return `${kind}${mode.toString(8).padStart(4, '0')} ${amount.padStart(9)}  ${path}`
}
