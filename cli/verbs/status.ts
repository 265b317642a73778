import type { Command } from 'commander'
import type { ParcelInfo } from '../../lib/client.js'
import { verb, type Context } from '../context.js'
import { bytes, duration } from '../terminal.js'
import { missingText, peerLines, repeatedly } from './transfers.js'
import {
  checkpointsText,
  leaseText,
  shortId,
  stateText,
  timeText,
  versionLine,
  whereText
} from '../text.js'

export function statusVerb(program: Command): void {
  const command = program
    .command('status')
    .description('show where a parcel and its newest version are; without a name, all of them')
    .argument('[name]', 'the parcel')
    .option('-w, --watch', 'again each second, with what comes and goes, until Ctrl-C', false)
    .addHelpText('after', '\nExample: hyperparcel status work --watch')
  verb(command, async (context, self) => {
    const [name] = self.args
    const { watch } = self.opts<{ watch: boolean }>()
    await repeatedly(context, watch, () => show(context, name, watch))
  })
}

async function show(
  { terminal, client }: Context,
  name: string | undefined,
  isWatched: boolean
): Promise<void> {
  const { name: host, refused, wrongGuesses } = await client.call('id', {})
  const { parcels, problems } =
    name === undefined
      ? await client.call('ls', {})
      : { parcels: [await client.call('status', { name })], problems: [] }
  for (const parcel of parcels) {
    const lines = [describe(parcel, host)]
    if (isWatched) lines.push(`  ${missingText(parcel)}`, ...peerLines(parcel))
    terminal.result('parcel', parcel, lines.join('\n'))
  }
  if (refused > 0) terminal.note(`${refused} connections of unknown hosts were refused so far`)
  if (wrongGuesses > 0) terminal.note(`${wrongGuesses} wrong guesses at invites so far`)
  for (const problem of problems) terminal.note(`problem: ${problem}`)
  if (parcels.length + problems.length === 0)
    terminal.note("no parcels yet: 'hyperparcel add' or 'join' one")
}

function describe(parcel: ParcelInfo, self: string): string {
  const lines = [`${parcel.name} (${parcel.driver}): ${stateText(parcel)}`]
  for (const head of parcel.heads) {
    lines.push(`  version ${versionLine(head)}`, `    ${whereText(head, parcel, self)}`)
  }
  const { here, total } = parcel.blocks
  if (parcel.role === 'vault')
    lines.push(`  keeps ${here} of ${total} blocks, which it cannot read`)
  else if (parcel.heads.length === 0) lines.push('  no version yet')
  if (parcel.isPaused) lines.push("  paused: 'hyperparcel pause --off' lets blocks come again")
  if (parcel.isInConflict) {
    const ids = parcel.heads.map(({ id }) => shortId(id)).join(' or ')
    lines.push(
      `  conflict: choose ${ids} with 'hyperparcel resume ${parcel.name} --version', or settle it ` +
        `with 'hyperparcel resolve ${parcel.name}'`
    )
  }
  for (const { name, role, isConnected, lastSeen, runningSince } of parcel.members) {
    const seen = lastSeen === null ? '' : ` for ${duration(Date.now() - lastSeen)}`
    const there = isConnected ? ', connected' : `, not connected${seen}`
    const runs = runningSince === null ? '' : `, its machine runs since ${timeText(runningSince)}`
    lines.push(`  ${role} ${name}${name === self ? ' (this host)' : `${there}${runs}`}`)
  }
  if (parcel.lease !== null) lines.push(`  ${leaseText(parcel.lease)}`)
  const when = checkpointsText(parcel.checkpoints)
  if (when !== null) {
    lines.push(`  ${when}`)
  }
  if (parcel.suspendAsked !== null) {
    const { host, left } = parcel.suspendAsked
    lines.push(
      `  ${host} asks that it is suspended here: in ${duration(left)}; ` +
        `'hyperparcel suspend ${parcel.name} --refuse' keeps it running`
    )
  }
  const { stall, dirtyBytes } = parcel.images ?? { stall: null, dirtyBytes: 0 }
  if (stall !== null) {
    const from = stall.from.length === 0 ? '' : `, from ${stall.from.join(' or ')}`
    lines.push(`  it waits (${duration(stall.since)}) for ${stall.why}${from}`)
  }
  const { used, covered, known } = parcel.images?.workingSet ?? { used: 0, covered: 0, known: 0 }
  if (known > 0 && used > 0) {
    const percent = Math.round((100 * covered) / used)
    lines.push(
      `  working set: ${covered} of ${used} pages were foretold (${percent}%), ` +
        `${known - covered} of ${known} for nothing so far`
    )
  }
  if (dirtyBytes > 0) lines.push(`  ${bytes(dirtyBytes)} written since its version`)
  for (const { host, refusal } of parcel.peers) {
    if (refusal !== null) lines.push(`  ${host.slice(0, 8)}: ${refusal}`)
  }
  if (parcel.lastWords !== null) lines.push(`  its machine ended: ${parcel.lastWords}`)
  if (parcel.state === 'off') {
    lines.push(
      `  what it did since its version is in none: 'hyperparcel suspend ${parcel.name}' stores its disk`
    )
  }
  for (const { at, why } of parcel.rollbacks) {
    lines.push(`  rolled back, noticed ${timeText(at)}: ${why}; 'hyperparcel doctor' says more`)
  }
  for (const problem of parcel.problems) lines.push(`  problem: ${problem}`)
  return lines.join('\n')
}
