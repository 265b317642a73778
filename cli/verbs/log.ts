import type { Command } from 'commander'
import { verb } from '../context.js'
import { Graph } from '../graph.js'
import { versionLine } from '../text.js'

export function logVerb(program: Command): void {
  const command = program
    .command('log')
    .description('show the versions of a parcel as a graph, newest first')
    .argument('<name>', 'the parcel')
    .addHelpText(
      'after',
      `
A '*' marks a head. Two on one branch are a conflict: 'hyperparcel resolve' settles it.
Example: hyperparcel log work`
    )
  verb(command, async ({ terminal, client }, self) => {
    const [name = ''] = self.args
    const graph = new Graph()
    let count = 0
    await client.each('log', { name }, (version) => {
      count++
      const { above, row, below } = graph.add(
        version.id,
        version.parents,
        version.isHead ? '*' : 'o'
      )
      const lines = [...above, `${row} ${versionLine(version)}`, ...below]
      terminal.result('version', version, lines.join('\n'))
    })
    if (count === 0) terminal.note(`no version of ${name} yet: 'hyperparcel suspend ${name}'`)
  })
}
