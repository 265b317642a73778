import { resolve } from 'node:path'
import type { Command } from 'commander'
import { follow, verb } from '../context.js'
import { seconds } from '../options.js'
import { shortId } from '../text.js'

export function restoreVerb(program: Command): void {
  const command = program
    .command('restore')
    .description('write a version, or some paths of it, into a new folder of its own')
    .argument('<name>', 'the parcel')
    .argument('<version>', 'the beginning of its id, a tag or a branch')
    .argument('[path...]', 'files or folders in it (default: everything)')
    .requiredOption('--to <dir>', 'a folder that is empty or not there yet')
    .option('--timeout <seconds>', 'how long to wait for hosts that do not answer', seconds, 60)
    .addHelpText(
      'after',
      `
Of what is not on this host, only what is restored is fetched.
Example: hyperparcel restore work before-upgrade etc/fstab --to /tmp/old`
    )
  verb(command, async (context, self) => {
    const [name = '', version = '', ...paths] = self.args
    const { to, timeout } = self.opts<{ to: string; timeout: number }>()
    const what = { name, version, to: resolve(to), paths, timeout: timeout * 1_000 }
    const result = await context.client.call('restore', what, follow(context))
    const { path, files } = result
    const things = files === 1 ? '1 file' : `${files} files`
    context.terminal.result(
      'restored',
      { name, version: result.version.id, path, files },
      `${things} of ${name} ${shortId(result.version.id)} in ${path}`
    )
  })
}
