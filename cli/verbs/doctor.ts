import { Option, type Command } from 'commander'
import {
  checkAccelerator,
  examine,
  ParcelError,
  type Check,
  type Finding
} from '../../lib/index.js'
import { verb, type Context } from '../context.js'

export function doctorVerb(program: Command): void {
  const command = program
    .command('doctor')
    .description('say what machines can use on this host, and what will happen without it')
    .option(
      '--kvm',
      'try on a guest of our own what is different under KVM (under a minute)',
      false
    )
    .addOption(
      new Option('--accelerator <name>', 'with --kvm: the same checklist under another one')
        .choices(['kvm', 'tcg'])
        .default('kvm')
    )
    .addHelpText(
      'after',
      '\nExamples: hyperparcel doctor --json\n          hyperparcel doctor --kvm'
    )
  verb(command, async (context, self) => {
    const { kvm, accelerator } = self.opts<{ kvm: boolean; accelerator: 'kvm' | 'tcg' }>()
    if (kvm) return tryAccelerator(context, accelerator)
    const findings = await examine()
    context.terminal.result('doctor', { findings }, findings.map(line).join('\n'))
  })
}

async function tryAccelerator({ terminal }: Context, accelerator: 'kvm' | 'tcg'): Promise<void> {
  const checks: Check[] = []
  for await (const check of checkAccelerator(accelerator)) {
    checks.push(check)
    const { name, isGood, found } = check
    terminal.result(
      'check',
      { ...check },
      `${isGood ? 'ok  ' : 'no  '} ${name.padEnd(10)} ${found}`
    )
  }
  const bad = checks.filter(({ isGood }) => !isGood)
  if (bad.length === 0) return
  const names = bad.map(({ name }) => name).join(', ')
  throw new ParcelError('VMM_FAILED', `under ${accelerator} not as it should be: ${names}`)
}

function line({ name, isUsable, found, consequence }: Finding): string {
  const mark = isUsable ? 'ok  ' : consequence === null ? '—   ' : 'no  '
  return `${mark} ${name.padEnd(10)} ${found}${consequence === null ? '' : `\n${' '.repeat(16)}${consequence}`}`
}
