import type { Command } from 'commander'
import { examine, type Finding } from '../../lib/index.js'
import { verb } from '../context.js'

export function doctorVerb(program: Command): void {
  const command = program
    .command('doctor')
    .description('say what machines can use on this host, and what will happen without it')
    .addHelpText('after', '\nExample: hyperparcel doctor --json')
  verb(command, async ({ terminal }) => {
    const findings = await examine()
    terminal.result('doctor', { findings }, findings.map(line).join('\n'))
  })
}

function line({ name, isUsable, found, consequence }: Finding): string {
  const mark = isUsable ? 'ok  ' : consequence === null ? '—   ' : 'no  '
  return `${mark} ${name.padEnd(10)} ${found}${consequence === null ? '' : `\n${' '.repeat(16)}${consequence}`}`
}
