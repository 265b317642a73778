import type { Command } from 'commander'
import { ParcelError } from '../../lib/client.js'
import { verb } from '../context.js'
import { shortId, versionLine } from '../text.js'

export function tagVerb(program: Command): void {
  const command = program
    .command('tag')
    .description('give a version a name, on every host; without one, list the names')
    .argument('<name>', 'the parcel')
    .argument('[tag]', 'the name')
    .argument('[version]', 'the beginning of its id, or another name (default: the newest)')
    .option('--force', 'also when another version has this name', false)
    .option('--delete', 'take the name away', false)
    .addHelpText('after', '\nExample: hyperparcel tag work before-upgrade')
  verb(command, async ({ terminal, client }, self) => {
    const [name = '', tag, version] = self.args
    const { force, delete: isGone } = self.opts<{ force: boolean; delete: boolean }>()
    if (isGone && tag === undefined) throw new ParcelError('USAGE', '--delete which name?')
    if (tag === undefined) {
      const { tags } = await client.call('tags', { name })
      for (const each of tags) {
        terminal.result('tag', each, `${shortId(each.version)}  ${each.tag}`)
      }
      if (tags.length === 0) terminal.note(`no version of ${name} has a name`)
      return
    }
    if (isGone) {
      await client.call('untag', { name, tag })
      terminal.result('untagged', { name, tag }, `no version of ${name} is called ${tag} any more`)
      return
    }
    const what = { name, tag, force }
    const tagged = await client.call('tag', version === undefined ? what : { ...what, version })
    terminal.result('version', tagged, versionLine(tagged))
  })
}
