import type { Command } from 'commander'
import { ParcelError, type RetentionPolicy } from '../../lib/client.js'
import { verb, type Context } from '../context.js'
import { whole } from '../options.js'
import { shortId, versionLine } from '../text.js'

interface Options {
  keepLast?: number
  keepDaily?: number
  keepWeekly?: number
  keepTag?: string[]
  dryRun: boolean
  auto?: boolean
  undo: boolean
}

export function forgetVerb(program: Command): void {
  const command = program
    .command('forget')
    .description('say which versions need not be on this host; prune gives their space back')
    .argument('<name>', 'the parcel')
    .argument('[versions...]', 'these, by the beginnings of their ids or by tags')
    .option('--keep-last <n>', 'all but the newest n of each branch', whole)
    .option('--keep-daily <n>', 'keep the last one of each of n days', whole)
    .option('--keep-weekly <n>', 'keep the last one of each of n weeks', whole)
    .option('--keep-tag <tags...>', "keep what has one of these tags; '*' is any text")
    .option('--dry-run', 'only say which they are', false)
    .option('--auto', 'do it, and prune, by itself from now on')
    .option('--no-auto', 'no longer do it by itself')
    .option('--undo', 'keep them after all; none named: all', false)
    .addHelpText(
      'after',
      `
A version stays when any rule keeps it; heads, and what the folder here continues, always stay. Each
host decides for itself: what it forgets stays where it is until 'hyperparcel prune', and on the hosts
that keep it. 'hyperparcel resume --version' of one that has gone fetches it again.
Examples: hyperparcel forget work --keep-last 5 --keep-weekly 8 --keep-tag 'release-*'
          hyperparcel forget work --keep-last 10 --auto`
    )
  verb(command, async (context, self) => {
    const { client, terminal } = context
    const [name = '', ...versions] = self.args
    const options = self.opts<Options>()
    const { dryRun, auto, undo } = options
    const policy = policyOf(options)
    if (undo) {
      if (policy !== null)
        throw new ParcelError('USAGE', '--undo goes with versions, not with --keep')
      await client.call('remember', { name, versions })
      terminal.result('remembered', { name, versions }, `${name}: they are kept`)
      return
    }
    if (auto === true && policy === null) throw new ParcelError('USAGE', '--auto goes with --keep')
    if (auto !== undefined && !dryRun) {
      await client.call('retention', { name, policy: auto ? policy : null })
    }
    if (policy === null && versions.length === 0) {
      await sayPolicy(context, name)
      return
    }
    const { forgotten, kept } = await client.call('forget', {
      name,
      versions,
      policy,
      isDry: dryRun
    })
    for (const version of forgotten) terminal.result('version', version, versionLine(version))
    const count = forgotten.length === 1 ? '1 version' : `${forgotten.length} versions`
    const what = dryRun ? 'would be forgotten' : 'forgotten'
    const next = forgotten.length === 0 || dryRun ? '' : `: 'hyperparcel prune ${name}' is next`
    const ids = forgotten.map(({ id }) => shortId(id))
    terminal.result(
      'forgotten',
      { name, versions: ids, kept, isDry: dryRun },
      `${name}: ${count} ${what}, ${kept} kept${next}`
    )
  })
}

async function sayPolicy({ client, terminal }: Context, name: string): Promise<void> {
  const { policy } = await client.call('retention', { name })
  const text =
    policy === null
      ? `${name}: nothing is forgotten by itself`
      : `${name}: forgotten by itself but for ${policy.last} newest, of ${policy.daily} days, ` +
        `of ${policy.weekly} weeks, tags ${policy.tags.join(' ') || 'none'}`
  terminal.result('retention', { name, policy }, text)
}

/** null: no rule was given. */
function policyOf({ keepLast, keepDaily, keepWeekly, keepTag }: Options): RetentionPolicy | null {
  const rules = [keepLast, keepDaily, keepWeekly, keepTag]
  if (rules.every((rule) => rule === undefined)) return null
  return {
    last: keepLast ?? 0,
    daily: keepDaily ?? 0,
    weekly: keepWeekly ?? 0,
    tags: keepTag ?? []
  }
}
