import { resolve } from 'node:path'
import type { Command } from 'commander'
import { verb } from '../context.js'

export function addVerb(program: Command): void {
  const command = program
    .command('add')
    .description('register a machine or a folder as a parcel; the first suspend makes a version')
    .argument('<path>', 'its folder')
    .requiredOption('--name <name>', 'what to call it')
    .option('--vm <monitor>', 'qemu, v86 or folder', 'folder')
    .addHelpText(
      'after',
      `
A machine is described by machine.json in its folder; where there is none, one that suits what is
in the folder (a disk image, a kernel) is written.
Examples:
  hyperparcel add ~/vm/work --name work --vm qemu
  hyperparcel add ~/footage --name footage --vm folder`
    )
  verb(command, async ({ terminal, client }, self) => {
    const [path = ''] = self.args
    const { name, vm } = self.opts<{ name: string; vm: string }>()
    const parcel = await client.call('add', { path: resolve(path), name, vm })
    terminal.result(
      'parcel',
      parcel,
      `${name} is ${parcel.path}; 'hyperparcel ${vm === 'folder' ? 'suspend' : 'run'} ${name}' is next`
    )
  })
}
