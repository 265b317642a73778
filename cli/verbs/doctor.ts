import { Option, type Command } from 'commander'
import { homeDir, ParcelError } from '../../lib/client.js'
import type { Check, Finding } from '../../lib/index.js'
import { library, verb, type Context } from '../context.js'
import { timeText } from '../text.js'

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
    .option('--seen', 'forget that a store was put back to an earlier state', false)
    .addHelpText(
      'after',
      '\nExamples: hyperparcel doctor --json\n          hyperparcel doctor --kvm'
    )
  verb(command, async (context, self) => {
    const { kvm, accelerator, seen } = self.opts<{
      kvm: boolean
      accelerator: 'kvm' | 'tcg'
      seen: boolean
    }>()
    if (kvm) return tryAccelerator(context, accelerator)
    if (self.getOptionValueSource('accelerator') === 'cli') {
      throw new ParcelError('USAGE', '--accelerator goes with --kvm')
    }
    const { examine } = await library()
    const findings = await examine()
    context.terminal.result('doctor', { findings }, findings.map(line).join('\n'))
    await lookAtStore(context, seen)
  })
}

/** Whether the store is what this host left it as. Throws FORKED when it is not. */
async function lookAtStore({ terminal, client, options }: Context, isSeen: boolean): Promise<void> {
  const { readHome } = await library()
  const isHost = await readHome(homeDir(options.home)).then(
    () => true,
    () => false
  )
  if (!isHost) return
  if (isSeen) await client.call('forget-rollbacks', {})
  const { parcels, problems } = await client.call('ls', {})
  for (const problem of problems) terminal.note(`problem: ${problem}`)
  const rolledBack = parcels.filter(({ rollbacks }) => rollbacks.length > 0)
  for (const { name, rollbacks } of rolledBack) {
    for (const { at, why } of rollbacks) {
      terminal.result(
        'rollback',
        { name, at, why },
        `no   ${name}: ${why}, noticed ${timeText(at)}`
      )
    }
  }
  if (rolledBack.length === 0) {
    if (problems.length === 0) return
    throw new ParcelError('INTEGRITY', 'not all of the store opens: see above')
  }
  const names = rolledBack.map(({ name }) => name).join(', ')
  throw new ParcelError(
    'FORKED',
    `the store was put back for ${names}: versions that it had made since are those that other hosts ` +
      "have ('hyperparcel log'); 'hyperparcel doctor --seen' forgets this"
  )
}

async function tryAccelerator({ terminal }: Context, accelerator: 'kvm' | 'tcg'): Promise<void> {
  const { checkAccelerator } = await library()
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
