import { ParcelError } from './errors.js'

/** Whether a text can be a parcel's name: it also names its folder, so nothing of a path is in it. */
export function isName(name: string): boolean {
  return /^[\p{L}\p{N}][\p{L}\p{N}._-]{0,63}$/u.test(name)
}

/** Throws USAGE. */
export function requireName(name: string): void {
  if (isName(name)) return
  throw new ParcelError(
    'USAGE',
    `not a name: ${JSON.stringify(name)} (1 to 64 letters, digits, '.', '_' or '-', not beginning with a mark)`
  )
}
