import { InvalidArgumentError } from 'commander'

/** Reads an option that is a number of seconds. */
export function seconds(text: string): number {
  const value = Number(text)
  if (Number.isFinite(value) && value >= 0 && value <= 86_400) return value
  throw new InvalidArgumentError('a number of seconds, at most a day')
}

/** Reads an option that is a number of bytes, such as 500G or 1.5T; null for 'none'. */
export function size(text: string): number | null {
  if (text === 'none') return null
  const [, number = '', unit = ''] = /^(\d+(?:\.\d+)?)\s*([kmgt]?)i?b?$/i.exec(text) ?? []
  const factor = 1_024 ** ['', 'k', 'm', 'g', 't'].indexOf(unit.toLowerCase())
  const value = Math.floor(Number(number) * factor)
  if (number !== '' && Number.isSafeInteger(value)) return value
  throw new InvalidArgumentError("a size such as 500G, or 'none'")
}

/** Reads an option that is a TCP or UDP port; 0: any. */
export function port(text: string): number {
  const value = Number(text)
  if (Number.isInteger(value) && value >= 0 && value <= 65_535) return value
  throw new InvalidArgumentError('a port from 0 to 65535')
}
