import { createInterface } from 'node:readline/promises'
import { InvalidArgumentError, Option, type Command } from 'commander'
import { renderUnicodeCompact } from 'uqr'
import { ParcelError, ROLES, type MemberRole } from '../../lib/client.js'
import { verb, type Context } from '../context.js'
import { duration } from '../terminal.js'

interface Options {
  for: number
  role: MemberRole
  yes: boolean
}

export function inviteVerb(program: Command): void {
  const command = program
    .command('invite')
    .description('let one other host into a parcel')
    .argument('<name>', 'the parcel')
    .addOption(new Option('--role <role>', 'what it may do').choices(ROLES).default('runner'))
    .option('--for <minutes>', 'how long the invite is good', minutes, 10)
    .option(
      '--yes',
      'let in who comes with it, without asking; so where there is no terminal',
      false
    )
    .addHelpText(
      'after',
      `
owner: invites and revokes. runner: resumes and suspends. reader: fetches, makes no versions.
vault: keeps and serves what it cannot read.
The code is a number and two words: read it to the other's user. Only the number is looked up in the
DHT; three wrong guesses end the invite. The link and the picture say the same, without guesses.
Leave this host online until it is used.
Example: hyperparcel invite work --role reader`
    )
  verb(command, async (context, self) => {
    const [name = ''] = self.args
    const { for: length, role, yes } = self.opts<Options>()
    const isAsked = !yes && !context.terminal.isJson && process.stdin.isTTY
    await showInvite(context, { name, role, minutes: length, isAsked })
  })
}

/** Opens an invite and prints it. */
export async function showInvite(
  context: Context,
  {
    name,
    role,
    minutes: length,
    isAsked
  }: { name: string; role: MemberRole; minutes: number; isAsked: boolean }
): Promise<void> {
  const wish = { name, role, ttl: length * 60_000, ask: isAsked }
  await show(context, await context.client.call('invite', wish), { name, role })
}

export function linkVerb(program: Command): void {
  const command = program
    .command('link')
    .description('make another machine of yours an owner of every parcel that this host owns')
    .option('--for <minutes>', 'how long the invite is good', minutes, 10)
    .option(
      '--yes',
      'let in who comes with it, without asking; so where there is no terminal',
      false
    )
    .addHelpText(
      'after',
      '\nOn the other machine: hyperparcel join, then the code or the link.\nExample: hyperparcel link'
    )
  verb(command, async (context, self) => {
    const { for: length, yes } = self.opts<Options>()
    const isAsked = !yes && !context.terminal.isJson && process.stdin.isTTY
    const opened = await context.client.call('link', { ttl: length * 60_000, ask: isAsked })
    await show(context, opened, { parcels: opened.parcels, role: 'owner' })
  })
}

/** Prints an invite; where it asks, waits for who uses it. */
async function show(
  context: Context,
  {
    invite,
    code,
    expires,
    id
  }: { invite: string; code: string; expires: number; id: string | null },
  fields: object
): Promise<void> {
  const { terminal } = context
  const picture = process.stdout.isTTY ? `\n${renderUnicodeCompact(invite)}` : ''
  terminal.result('invite', { ...fields, invite, code, expires }, `${code}\n${invite}${picture}`)
  if (terminal.isJson) return
  const good = duration(expires - Date.now())
  terminal.note(
    `good for one host and ${good}: 'hyperparcel join' there, then the code or the link`
  )
  if (id !== null) await askAbout(context, id, expires)
}

/** Shows who comes, and asks whether it is let in. */
async function askAbout(
  { terminal, client, signal }: Context,
  id: string,
  expires: number
): Promise<void> {
  terminal.note('waiting for the other host; Ctrl-C ends the invite')
  const limit = AbortSignal.any([signal, AbortSignal.timeout(Math.max(expires - Date.now(), 0))])
  const newcomer = await client
    .call('invite-wait', { id }, { signal: limit })
    .catch((error: unknown) => {
      if (signal.aborted || !limit.aborted) throw error
      throw new ParcelError('INVITE_EXPIRED', 'nobody has used the invite')
    })
  const prompt = createInterface({ input: process.stdin, output: process.stderr })
  try {
    const question =
      `"${newcomer.name}" wants to join. Its words, which 'hyperparcel id' shows there:\n` +
      `  ${newcomer.words}\nLet it in? [y/N] `
    const answer = await prompt.question(question, { signal })
    const isAllowed = /^y(es)?$/i.test(answer.trim())
    await client.call('invite-answer', { id, isAllowed })
    if (!isAllowed) throw new ParcelError('FORBIDDEN', `"${newcomer.name}" was not let in`)
    terminal.note(`"${newcomer.name}" was let in`)
  } finally {
    prompt.close()
  }
}

function minutes(text: string): number {
  const value = Number(text)
  if (Number.isFinite(value) && value > 0 && value <= 1_440) return value
  throw new InvalidArgumentError('a number of minutes, at most a day')
}
