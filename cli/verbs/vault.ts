import { resolve } from 'node:path'
import type { Command } from 'commander'
import { ParcelError, type VaultInfo } from '../../lib/client.js'
import { follow, verb, type Context } from '../context.js'
import { seconds, size } from '../options.js'
import { ask } from '../prompt.js'
import { bytes } from '../terminal.js'
import { showInvite } from './invite.js'

interface Options {
  quota?: number
  close: boolean
  forget: boolean
  wait: boolean
  timeout: number
}

/** A link or a code; a folder of such a name can be given as ./NAME. */
const INVITE = /^(hyperparcel\d+\.\S+|\d{1,8}([-\s]+[a-z]+){2})$/i

export function vaultVerb(program: Command): void {
  const command = program
    .command('vault')
    .description('keep copies that the keeper cannot read: in a folder, or on another host')
    .argument(
      '[what]',
      "a folder; or an invite; or 'invite', to make one; nothing: show what there is"
    )
    .argument(
      '[parcels...]',
      'those that it is to keep; for a new folder default all that this host owns'
    )
    .option('--quota <size>', "what it may take of the disk, such as 500G, or 'none'", size)
    .option('--close', 'stop using the folder: its disk can be taken away', false)
    .option('--forget', 'the folder is no vault any more: it is revoked', false)
    .option('--no-wait', 'do not wait until it has everything; it goes on by itself')
    .option('--timeout <seconds>', 'how long to wait for the inviting host', seconds, 60)
    .addHelpText(
      'after',
      `
A folder, such as one on a removable disk, becomes a vault of this host's parcels: it is filled
whenever it is there, serves what it has to every member, and any host of theirs that it is plugged
into can open it in the same way. A host that uses an invite of 'vault invite' becomes one as a whole.
A vault has no key to what it keeps: it sees no names, no sizes of files, no contents.
Examples:
  hyperparcel vault /media/stick/parcels --quota 200G
  hyperparcel vault /media/stick/parcels --close
  hyperparcel vault invite work          here; then, on the rented box:
  hyperparcel vault INVITE --quota 1T`
    )
  verb(command, async (context, self) => {
    const [what = '', ...names] = self.args
    const options = self.opts<Options>()
    if (options.close && options.forget)
      throw new ParcelError('USAGE', 'give --close or --forget, not both')
    if (what === '') await showAll(context, options)
    else if (what === 'invite') await invite(context, names)
    else if (what === '-' || INVITE.test(what)) await join(context, what, options)
    else await folder(context, resolve(what), names, options)
  })
}

/** null: as many bytes as there are. */
function limitOf(quota: number): number | null {
  return quota === Infinity ? null : quota
}

async function showAll({ terminal, client }: Context, { quota }: Options): Promise<void> {
  if (quota !== undefined) await client.call('quota', { bytes: limitOf(quota) })
  const { vaults, used, limit } = await client.call('vaults', {})
  for (const vault of vaults) terminal.result('vault', vault, describeVault(vault))
  const { parcels } = await client.call('ls', {})
  const kept = parcels.filter(({ role }) => role === 'vault')
  if (kept.length > 0 || limit !== null) {
    const text = `this host keeps ${kept.length} parcels for others: ${ofLimit(used, limit)}`
    terminal.result('store', { used, limit, parcels: kept.map(({ name }) => name) }, text)
  }
  if (vaults.length === 0 && kept.length === 0) {
    terminal.note("no vaults yet: 'hyperparcel vault PATH' makes one")
  }
}

async function invite(context: Context, names: string[]): Promise<void> {
  const [name, ...others] = names
  if (name === undefined || others.length > 0) {
    throw new ParcelError('USAGE', "'vault invite' needs the name of one parcel")
  }
  const isAsked = !context.terminal.isJson && process.stdin.isTTY
  await showInvite(context, { name, role: 'vault', minutes: 10, isAsked })
}

async function join(context: Context, what: string, options: Options): Promise<void> {
  const { terminal, client } = context
  const { quota, timeout } = options
  if (quota !== undefined) await client.call('quota', { bytes: limitOf(quota) })
  const text = what === '-' ? (await ask('Code or link of the invite')).trim() : what
  const parcels = await client.call(
    'join',
    { invite: text, timeout: timeout * 1_000, asVault: true },
    follow(context)
  )
  for (const parcel of parcels) {
    terminal.result('parcel', parcel, `this host is a vault of it now, and calls it ${parcel.name}`)
  }
  terminal.note("it serves as long as its daemon runs: 'hyperparcel daemon' stays")
}

async function folder(
  context: Context,
  path: string,
  names: string[],
  { quota, close, forget, wait }: Options
): Promise<void> {
  const { terminal, client } = context
  if (close || forget) {
    const vault = await client.call(close ? 'vault-release' : 'vault-forget', { path })
    const said = close ? 'closed: its disk can be taken away' : 'no vault of this host any more'
    terminal.result('vault', vault, `${vault.path} is ${said}`)
    return
  }
  const parameters = {
    path,
    names,
    wait,
    ...(quota === undefined ? {} : { quota: limitOf(quota) })
  }
  const vault = await client.call('vault-add', parameters, follow(context))
  terminal.result('vault', vault, describeVault(vault))
}

export function describeVault(vault: VaultInfo): string {
  const { path, state, parcels, carriesTo, done, total, used, limit, problem } = vault
  if (problem !== null) return `${path}: ${problem}`
  if (state === 'closed') return `${path}: closed, its disk can be taken away`
  if (state === 'away') return `${path}: not there`
  const to = carriesTo.length === 0 ? '' : ` that ${carriesTo.join(', ')} may lack`
  const has = total > 0 && done >= total ? 'has all' : `has ${done} of ${total} blocks`
  return `${path}: ${has} of ${parcels.join(', ') || 'nothing'}${to}, ${ofLimit(used, limit)}`
}

function ofLimit(used: number, limit: number | null): string {
  return limit === null ? `${bytes(used)} on the disk` : `${bytes(used)} of ${bytes(limit)}`
}
