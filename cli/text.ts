import type { LeaseInfo, LossInfo, ParcelInfo, VersionInfo } from '../lib/client.js'
import { bytes, duration } from './terminal.js'

/** When versions of a machine are made by themselves; null: never. */
export function checkpointsText({ every, idle }: ParcelInfo['checkpoints']): string | null {
  const when = [
    ...(every === null ? [] : [`every ${duration(every)}`]),
    ...(idle === null ? [] : [`when it has done little for ${duration(idle)}`])
  ]
  return when.length === 0 ? null : `a checkpoint ${when.join(', and ')} while it runs here`
}

/** Enough of a version's id to name it. */
export function shortId(id: string): string {
  return id.slice(0, 12)
}

/** Where a version is, honestly: 'here, durable; on desk: safe to leave', 'here' before it is flushed, 'on laptop; 3 of 9 blocks here'. */
export function whereText(
  version: VersionInfo,
  { blocks, copies }: Pick<ParcelInfo, 'blocks' | 'copies'>,
  self: string
): string {
  const elsewhere = elsewhereText(version, copies, self)
  const here = version.holders.includes(self) ? 'here, durable' : 'here'
  if (version.isHere) return elsewhere === '' ? here : `${here}; ${elsewhere}`
  return `${elsewhere || 'nowhere whole'}; ${blocks.here} of ${blocks.total} blocks here`
}

/** On which other hosts a version is, and whether they are enough: 'on desk and vault: safe to leave'. */
export function elsewhereText({ holders }: VersionInfo, copies: number, self: string): string {
  const others = holders.filter((name) => name !== self)
  if (others.length === 0) return ''
  const names = [others.slice(0, -1).join(', '), others.at(-1)].filter(Boolean).join(' and ')
  return `on ${names}${others.length >= copies ? ': safe to leave' : ''}`
}

/** Ranges that a line of text names; programs are given all. */
const MOST_RANGES = 8

/** Stretches of a file as OFFSET+LENGTH in bytes. */
export function rangesText(ranges: readonly (readonly [number, number])[]): string {
  const named = ranges.slice(0, MOST_RANGES).map(([offset, length]) => `${offset}+${length}`)
  const more = ranges.length > MOST_RANGES ? ` and ${ranges.length - MOST_RANGES} more` : ''
  return named.join(' ') + more
}

/** What of a version cannot be read any more. */
export function lossText({ version, path, ranges }: LossInfo): string {
  if (path === null) return `${shortId(version)}: its list of files cannot be read to its end`
  return `${shortId(version)}: ${path}  ${rangesText(ranges)}`
}

/** Who has the lease of a parcel, and by whose leave. */
export function leaseText(lease: LeaseInfo | null): string {
  if (lease === null) return 'nobody needs a lease'
  const { number, holderName, isHere, origin } = lease
  return `lease ${number} is ${isHere ? 'here' : `${holderName}'s`}, ${origin}`
}

/** A time of the last day as '9:12', else with its date. */
export function timeText(ms: number, now = Date.now()): string {
  const at = new Date(ms)
  const time = `${at.getHours()}:${String(at.getMinutes()).padStart(2, '0')}`
  if (Math.abs(now - ms) < 86_400_000) return time
  const month = String(at.getMonth() + 1).padStart(2, '0')
  return `${at.getFullYear()}-${month}-${String(at.getDate()).padStart(2, '0')} ${time}`
}

export function stateText(parcel: ParcelInfo): string {
  const { state, path, heads, screen, isInConflict } = parcel
  const several = `, ${heads.length} ${isInConflict ? 'heads: a conflict' : 'branches'}`
  const conflict = heads.length > 1 ? several : ''
  if (state === 'running') return `running${screen === null ? '' : `, screen ${screen}`}${conflict}`
  if (state === 'not here') return `no folder here yet${conflict}`
  return `${state === 'off' ? 'off, not suspended,' : state} in ${path ?? ''}${conflict}`
}

export function versionLine(version: VersionInfo): string {
  const when = new Date(version.created).toISOString().replace('T', ' ').slice(0, 16)
  const size = `${bytes(version.bytes)}, ${bytes(version.stored)} new`
  const said = version.message.replaceAll(/\s+/g, ' ')
  const message = said === '' ? '' : `  "${said}"`
  const holders = version.holders.join(', ')
  const where = holders === '' ? (version.isHere ? 'here' : 'nowhere whole') : `on ${holders}`
  const names = [...(version.branch === '' ? [] : [version.branch]), ...version.tags]
  const called = names.length === 0 ? '' : `  (${names.join(', ')})`
  const id = shortId(version.id)
  const state = version.isLapsed
    ? '  made without the lease'
    : version.isForgotten
      ? '  forgotten'
      : ''
  const { leftOut } = version
  const lacks = leftOut === 0 ? '' : `  ${leftOut} ${leftOut === 1 ? 'thing' : 'things'} left out`
  return `${id}${called}  ${when}  ${version.authorName}  ${size}  ${where}${state}${lacks}${message}`
}
