import { InvalidArgumentError } from 'commander'

/** Reads an option that is a number of seconds. */
export function seconds(text: string): number {
  const value = Number(text)
  if (Number.isFinite(value) && value >= 0 && value <= 86_400) return value
  throw new InvalidArgumentError('a number of seconds, at most a day')
}

/** Reads an option that is a span of time, such as 30s, 10m or 2h, without a unit in seconds; ms. */
export function span(text: string): number {
  const [, number = '', unit = 's'] = /^(\d+(?:\.\d+)?)(s|m|h|d)?$/.exec(text) ?? []
  const factor = { s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 }[unit] ?? 0
  const value = Math.round(Number(number) * factor)
  if (number !== '' && value <= 366 * 86_400_000) return value
  throw new InvalidArgumentError('a span of time such as 30s, 10m or 2h')
}

/** Reads an option that is a number of bytes, such as 500G or 1.5T; Infinity for 'none'. */
export function size(text: string): number {
  if (text === 'none') return Infinity
  const [, number = '', unit = ''] = /^(\d+(?:\.\d+)?)\s*([kmgt]?)i?b?$/i.exec(text) ?? []
  const factor = 1_024 ** ['', 'k', 'm', 'g', 't'].indexOf(unit.toLowerCase())
  const value = Math.floor(Number(number) * factor)
  if (number !== '' && Number.isSafeInteger(value)) return value
  throw new InvalidArgumentError("a size such as 500G, or 'none'")
}

/** Reads an option that is a number of days. */
export function days(text: string): number {
  const value = Number(text)
  if (/^\d+$/.test(text) && value >= 1 && value <= 3_650) return value
  throw new InvalidArgumentError('a number of days, at most 3650')
}

/** Reads an option that is a share, such as 5% or 0.05. */
export function share(text: string): number {
  const [, number = '', percent = ''] = /^(\d+(?:\.\d+)?)(%?)$/.exec(text) ?? []
  const value = Number(number) / (percent === '' ? 1 : 100)
  if (number !== '' && value > 0 && value <= 1) return value
  throw new InvalidArgumentError('a share such as 5%, at most 100%')
}

/** Reads an option that is a TCP or UDP port; 0: any. */
export function port(text: string): number {
  const value = Number(text)
  if (Number.isInteger(value) && value >= 0 && value <= 65_535) return value
  throw new InvalidArgumentError('a port from 0 to 65535')
}

/** Reads an option that is a whole number. */
export function whole(text: string): number {
  const value = Number(text)
  if (/^\d+$/.test(text) && value <= 1_000_000) return value
  throw new InvalidArgumentError('a whole number')
}

/** Reads an option that is a number of bytes a second, such as 500k or 2M; Infinity for 'none'. */
export function rate(text: string): number {
  try {
    const value = size(text.replace(/\/s$/, ''))
    if (value >= 1) return value
  } catch {
    // Said below.
  }
  throw new InvalidArgumentError("bytes a second, such as 500k or 2M, or 'none'")
}

/** Reads an option that is a part of the day, such as 8:00-18:00; minutes. */
export function daytime(text: string): { from: number; to: number } {
  const [, ...parts] = /^(\d{1,2}):(\d{2})-(\d{1,2}):(\d{2})$/.exec(text) ?? []
  const [hour = 99, minute = 99, endHour = 99, endMinute = 99] = parts.map(Number)
  const [from, to] = [hour * 60 + minute, endHour * 60 + endMinute]
  const isTime = minute < 60 && endMinute < 60 && from < 1_440 && to <= 1_440 && from !== to
  if (parts.length > 0 && isTime) return { from, to }
  throw new InvalidArgumentError('a part of the day such as 8:00-18:00')
}
