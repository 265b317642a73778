import type { Command } from 'commander'
import type { MemberInfo, ParcelInfo } from '../../lib/client.js'
import { verb } from '../context.js'

export function membersVerb(program: Command): void {
  const command = program
    .command('members')
    .description('show who belongs to a parcel, what each host may do, and who was shut out')
    .argument('<name>', 'the parcel')
    .addHelpText('after', '\nExample: hyperparcel members work')
  verb(command, async ({ terminal, client }, self) => {
    const [name = ''] = self.args
    const parcel = await client.call('status', { name })
    const { name: host } = await client.call('id', {})
    for (const member of parcel.members) {
      const here = member.name === host ? 'this host' : member.isConnected ? 'connected' : 'away'
      const text = `${member.role.padEnd(6)}  ${member.id.slice(0, 8)}  ${member.name}  ${here}`
      terminal.result('member', member, [text, ...factLines(member)].join('\n'))
    }
    for (const { since, ...one } of parcel.revoked) {
      const when = new Date(since).toISOString().slice(0, 10)
      const text = `revoked ${one.id.slice(0, 8)}  ${one.name}, ${when} by ${one.by}; was ${one.role}`
      terminal.result('revoked', { ...one, since }, text)
    }
    if (parcel.members.length === 0) terminal.note('who belongs to it has not arrived yet')
    terminal.note(`key epoch ${parcel.epoch}`)
  })
}

export function revokeVerb(program: Command): void {
  const command = program
    .command('revoke')
    .description("end a host's access to a parcel")
    .argument('<name>', 'the parcel')
    .argument('<host>', "the host's name, or the beginning of its key, as 'members' shows them")
    .addHelpText(
      'after',
      `
The others drop its connections and go on under keys that it is not given; what it writes from now on
counts for nobody. What it has already cannot be recalled: the versions that it holds, and the keys to
them. Versions that it made before stay.
Example: hyperparcel revoke work laptop`
    )
  verb(command, async ({ terminal, client }, self) => {
    const [name = '', host = ''] = self.args
    const parcel = await client.call('revoke', { name, host })
    terminal.result(
      'revoked',
      summary(parcel),
      `${name}: ${host} is shut out; key epoch ${parcel.epoch}`
    )
    terminal.note('what it has already cannot be recalled')
  })
}

export function rotateVerb(program: Command): void {
  const command = program
    .command('rotate')
    .description('go on under new keys, which all members are given')
    .argument('<name>', 'the parcel')
    .addHelpText(
      'after',
      '\nOld versions stay sealed under their old keys.\nExample: hyperparcel rotate work'
    )
  verb(command, async ({ terminal, client }, self) => {
    const [name = ''] = self.args
    const parcel = await client.call('rotate', { name })
    terminal.result('rotated', summary(parcel), `${name}: key epoch ${parcel.epoch}`)
  })
}

/** What a host says of itself, what of that has changed, and whether it could resume the parcel. */
function factLines({ facts, was, obstacles, role, incarnations }: MemberInfo): string[] {
  const sets =
    incarnations > 1
      ? [
          `        writes its ${ordinal(incarnations)} set of logs: its store was put back, or somebody else has its key`
        ]
      : []
  if (facts === null) return sets
  const { software = '', vmm = '', accelerators = '', system = '', cpu = '' } = facts
  const lines = [
    ...sets,
    `        ${software}, ${vmm === '' ? 'no QEMU' : `${vmm} (${accelerators})`}, ${system}, ${cpu}`
  ]
  for (const [name, before] of Object.entries(was)) {
    const change =
      name === 'flags'
        ? 'other processor flags'
        : `${before || 'nothing'}, now ${facts[name] ?? 'nothing'}`
    lines.push(`        changed: ${name}: ${change}`)
  }
  if (obstacles !== null && obstacles.length > 0 && (role === 'owner' || role === 'runner')) {
    lines.push(`        cannot resume it: ${obstacles.join(', ')}`)
  }
  return lines
}

function summary({ name, epoch, members, revoked }: ParcelInfo): object {
  return { name, epoch, members, revoked }
}

function ordinal(n: number): string {
  return ['', 'first', 'second', 'third'][n] ?? `${n}th`
}
