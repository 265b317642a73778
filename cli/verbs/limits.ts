import { Option, type Command } from 'commander'
import { ParcelError, type LimitRule, type LimitsInfo } from '../../lib/client.js'
import { verb } from '../context.js'
import { daytime, rate } from '../options.js'
import { bytes } from '../terminal.js'

export function limitsVerb(program: Command): void {
  const command = program
    .command('limits')
    .description('how much may go over the network; without options, what is set')
    .option('--up <rate>', 'bytes a second to all other hosts, such as 500k; none: no limit', rate)
    .option('--down <rate>', 'bytes a second from them', rate)
    .option('--peer-up <rate>', 'bytes a second to each of them', rate)
    .option('--peer-down <rate>', 'bytes a second from each of them', rate)
    .option('--between <times>', 'only then, such as 8:00-18:00, each day', daytime)
    .option('--clear', 'no limits at any time', false)
    .addOption(
      new Option('--metered <whether>', 'on: of versions only what is asked for now comes').choices(
        ['on', 'off']
      )
    )
    .option(
      '--metered-on <names...>',
      "so it is on these networks: names of interfaces or wireless networks, such as 'wwan*'; none: nowhere"
    )
    .option(
      '--weak-below <rate>',
      'so it is for ten minutes when less than this a second came while more was wanted; none: never',
      rate
    )
    .addOption(
      new Option(
        '--relay <whether>',
        'on: carry connections, sealed, between your hosts that reach this one and not each other; not while anything here is limited'
      ).choices(['on', 'off'])
    )
    .addHelpText(
      'after',
      `
Records always come, at once. What a running machine waits for comes at once too, and counts.
Examples: hyperparcel limits --up 2M --down 10M
          hyperparcel limits --up 200k --between 8:00-18:00
          hyperparcel limits --metered-on 'wwan*' 'Hotel WiFi'`
    )
  verb(command, async ({ client, terminal }, self) => {
    const { up, down, peerUp, peerDown, between, clear, metered, meteredOn, weakBelow, relay } =
      self.opts<{
        up?: number
        down?: number
        peerUp?: number
        peerDown?: number
        meteredOn?: string[]
        weakBelow?: number
        between?: LimitRule['between']
        clear: boolean
        metered?: 'on' | 'off'
        relay?: 'on' | 'off'
      }>()
    const isRule = [up, down, peerUp, peerDown].some((each) => each !== undefined)
    if (between !== undefined && !isRule) {
      throw new ParcelError('USAGE', '--between goes with --up, --down, --peer-up or --peer-down')
    }
    const now = await client.call('limits', {})
    const isOther = [metered, meteredOn, weakBelow, relay].some((each) => each !== undefined)
    if (!isRule && !clear && !isOther) {
      terminal.result('limits', now, limitsText(now))
      return
    }
    const time = between ?? null
    const isSame = (rule: LimitRule): boolean => timeText(rule.between) === timeText(time)
    const before = clear ? undefined : now.rules.find(isSame)
    /** What is not said stays as it was. */
    const orNone = (rate: number | undefined, was: number | null | undefined = null) =>
      rate === undefined ? (was ?? null) : rate === Infinity ? null : rate
    const rule = {
      between: time,
      up: orNone(up, before?.up),
      down: orNone(down, before?.down),
      peerUp: orNone(peerUp, before?.peerUp),
      peerDown: orNone(peerDown, before?.peerDown)
    }
    const info = await client.call('limits-set', {
      rule: isRule ? rule : null,
      isCleared: clear,
      ...(metered !== undefined && { isMetered: metered === 'on' }),
      ...(meteredOn !== undefined && { meteredOn: meteredOn.filter((name) => name !== 'none') }),
      ...(weakBelow !== undefined && { weakBelow: orNone(weakBelow) }),
      ...(relay !== undefined && { relays: relay === 'on' })
    })
    terminal.result('limits', info, limitsText(info))
  })
}

export function pauseVerb(program: Command): void {
  const command = program
    .command('pause')
    .description('let nothing of a parcel, or of any, come that is not asked for now')
    .argument('[name]', 'only this parcel')
    .option('--off', 'let it come again', false)
    .addHelpText('after', '\nExamples: hyperparcel pause\n          hyperparcel pause work --off')
  verb(command, async ({ client, terminal }, self) => {
    const [name] = self.args
    const { off } = self.opts<{ off: boolean }>()
    const which = name === undefined ? {} : { name }
    const info = await client.call('pause', { ...which, isPaused: !off })
    terminal.result('limits', info, limitsText(info))
  })
}

function limitsText({ rules, metered, meteredOn, weakBelow, paused, relays }: LimitsInfo): string {
  const lines = rules.map(({ between, up, down, peerUp, peerDown = null }) => {
    const parts = [
      up === null ? '' : `${bytes(up)}/s up`,
      down === null ? '' : `${bytes(down)}/s down`,
      peerUp === null ? '' : `${bytes(peerUp)}/s up to each host`,
      peerDown === null ? '' : `${bytes(peerDown)}/s down from each`
    ].filter((part) => part !== '')
    return `${timeText(between)}: ${parts.join(', ')}`
  })
  if (meteredOn.length > 0) lines.push(`metered on ${meteredOn.join(', ')}`)
  if (weakBelow !== null) lines.push(`weak below ${bytes(weakBelow)}/s`)
  if (metered !== null) {
    const why = {
      'by hand': 'is metered',
      'by its name': 'is metered, by its name',
      'by measure': 'is weak'
    }[metered]
    lines.push(`the link ${why}: of versions only what is asked for now comes`)
  }
  if (relays) lines.push('relays for other hosts, but for while anything is limited')
  if (paused === null) lines.push('paused: of versions only what is asked for now comes')
  else if (paused.length > 0) lines.push(`paused: ${paused.join(', ')}`)
  return lines.length === 0 ? 'no limits' : lines.join('\n')
}

function timeText(between: LimitRule['between']): string {
  if (between === null) return 'at any other time'
  const text = (minutes: number): string =>
    `${Math.floor(minutes / 60)}:${String(minutes % 60).padStart(2, '0')}`
  return `${text(between.from)}-${text(between.to)}`
}
