import type { Command } from 'commander'
import { setTimeout } from 'node:timers/promises'
import type { ParcelInfo } from '../../lib/client.js'
import { verb, type Context } from '../context.js'
import { bytes, duration } from '../terminal.js'
import { timeText } from '../text.js'

/** How often what is watched is looked at, ms. */
const EVERY = 1_000

export function transfersVerb(program: Command): void {
  const command = program
    .command('transfers')
    .description('what still has to come, from whom and how fast it comes, and what goes out')
    .argument('[name]', 'only of this parcel')
    .option('-w, --watch', 'again each second, until Ctrl-C', false)
    .addHelpText('after', '\nExample: hyperparcel transfers --watch')
  verb(command, async (context, self) => {
    const [name] = self.args
    const { watch } = self.opts<{ watch: boolean }>()
    await repeatedly(context, watch, async () => {
      for (const parcel of await parcelsOf(context, name)) {
        const { peers, missing } = parcel
        context.terminal.result(
          'transfers',
          { name: parcel.name, missing, ...paceOf(parcel), peers },
          [`${parcel.name}: ${missingText(parcel)}`, ...peerLines(parcel)].join('\n')
        )
      }
    })
  })
}

/** All parcels, or one. */
export async function parcelsOf({ client }: Context, name?: string): Promise<ParcelInfo[]> {
  if (name === undefined) return (await client.call('ls', {})).parcels
  return [await client.call('status', { name })]
}

/** What goes on until Ctrl-C ends by it: there is nothing to say. */
export function ended(): void {
  process.exitCode = 130
}

/** Does something once, or again each second in the same place of a terminal, until Ctrl-C. */
export async function repeatedly(
  { terminal, signal }: Context,
  isWatched: boolean,
  show: () => Promise<void>
): Promise<void> {
  for (;;) {
    if (!isWatched) return show()
    terminal.fresh()
    await show().catch((error: unknown) => {
      if (!signal.aborted) throw error
    })
    await setTimeout(EVERY, undefined, { signal }).catch(() => {})
    if (signal.aborted) return ended()
  }
}

/** Bytes a second that come, and seconds until all is here at that rate; null: nobody knows. */
function paceOf({ peers, missing }: ParcelInfo): { rate: number; eta: number | null } {
  const rate = peers.reduce((sum, { down }) => sum + down, 0)
  if (missing.bytes === 0) return { rate, eta: 0 }
  return { rate, eta: rate === 0 ? null : Math.ceil(missing.bytes / rate) }
}

export function missingText(parcel: ParcelInfo): string {
  const { blocks, bytes: size } = parcel.missing
  const { rate, eta } = paceOf(parcel)
  const { here, total } = parcel.blocks
  if (blocks === 0 && here < total) {
    return `nothing more is to come: ${here} of ${total} blocks are here, as 'hyperparcel hoard' says`
  }
  if (blocks === 0) return 'all is here'
  if (parcel.isPaused) {
    return `${blocks} blocks (${bytes(size)}) still to come, paused: 'hyperparcel pause --off' lets them`
  }
  const left =
    eta === null ? 'nothing comes now' : `${bytes(rate)}/s, ${duration(eta * 1_000)} left`
  return `${blocks} blocks (${bytes(size)}) still to come, ${left}`
}

function wayTo({ path, carrier, relayName }: ParcelInfo['peers'][number]): string {
  if (path === 'here') return 'a folder here'
  return relayName === null ? `${path}, ${carrier}` : `${path} by ${relayName}`
}

/** A line for each other member: by what way it is connected, and what goes over that. */
export function peerLines({ peers, members }: ParcelInfo): string[] {
  return members.flatMap(({ id, name, isConnected, lastSeen }) => {
    const peer = peers.find(({ host }) => host === id)
    if (peer !== undefined) {
      const way = wayTo(peer)
      const moved = `${bytes(peer.received)} came, ${bytes(peer.sent)} went`
      return [`  ${name} (${way}): ${bytes(peer.down)}/s down, ${bytes(peer.up)}/s up; ${moved}`]
    }
    if (isConnected) return []
    const seen = lastSeen === null ? 'not heard yet' : `last heard ${timeText(lastSeen)}`
    return [`  ${name}: not connected, ${seen}`]
  })
}
