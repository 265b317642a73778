import { InvalidArgumentError, type Command } from 'commander'
import { isHoardedVersions, type HoardPolicy, type HoardedVersions } from '../../lib/client.js'
import { verb } from '../context.js'

export function hoardVerb(program: Command): void {
  const command = program
    .command('hoard')
    .description('which versions come to this host by themselves; without options, what is set')
    .argument('<name>', 'the parcel')
    .option(
      '--versions <which>',
      'head: what is newest; last:N: the last ones too; all: every version (default)',
      versions
    )
    .option(
      '--files <globs...>',
      "only these files of them, or what is below, such as 'raw/2026-*'"
    )
    .addHelpText(
      'after',
      `
The newest version comes first, of a machine what its start needs, then memory, then disks. What is
here already stays; 'forget' and 'prune' give space back. What was not fetched comes when it is
asked for. Each host decides for itself.
Examples: hyperparcel hoard work --versions head
          hyperparcel hoard photos --files 'raw/2026-*' index.db`
    )
  verb(command, async ({ client, terminal }, self) => {
    const [name = ''] = self.args
    const { versions, files } = self.opts<{ versions?: HoardedVersions; files?: string[] }>()
    const isShown = versions === undefined && files === undefined
    const policy = isShown
      ? await client.call('hoard', { name })
      : await client.call('hoard-set', { name, versions: versions ?? 'all', files: files ?? [] })
    terminal.result('hoard', { name, ...policy }, hoardText(name, policy))
  })
}

export function unhoardVerb(program: Command): void {
  const command = program
    .command('unhoard')
    .description('let nothing of a parcel come to this host before it is asked for')
    .argument('<name>', 'the parcel')
    .addHelpText(
      'after',
      `
It is still told of new versions, and fetches of them what a resume or a mount reads. What is here
stays. 'hyperparcel hoard NAME' takes it back.
Example: hyperparcel unhoard work`
    )
  verb(command, async ({ client, terminal }, self) => {
    const [name = ''] = self.args
    const policy = await client.call('hoard-set', { name, versions: 'none', files: [] })
    terminal.result('hoard', { name, ...policy }, hoardText(name, policy))
  })
}

function hoardText(name: string, { versions, files }: HoardPolicy): string {
  const which = new Map<string, string>([
    ['all', 'all of every version'],
    ['head', 'the newest version'],
    ['none', 'nothing that is not asked for']
  ])
  const said = which.get(versions) ?? `the last ${versions.slice(5)} versions`
  const part = files.length === 0 ? '' : `, of it only ${files.join(', ')}`
  return `${name}: ${said}${part} comes here by itself`
}

function versions(text: string): HoardedVersions {
  if (isHoardedVersions(text) && text !== 'none') return text
  throw new InvalidArgumentError('head, last:N or all')
}
