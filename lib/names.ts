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

/** Whether a text is read as the beginning of a version's id, whatever else has that name. */
export function isIdPrefix(text: string): boolean {
  return /^[0-9a-f]{4,64}$/i.test(text)
}

/** Whether a text can be the name of a tag or a branch. */
export function isLabel(name: string): boolean {
  return isName(name) && !isIdPrefix(name)
}

/** Throws USAGE for what cannot be the name of a tag or a branch. */
export function requireLabel(name: string): void {
  requireName(name)
  if (!isIdPrefix(name)) return
  throw new ParcelError('USAGE', `"${name}" looks like a version's id: choose another name`)
}

/** The member, in hex, that a user means by a name or the beginning of a key. Throws USAGE. */
export function memberNamed(
  members: readonly { id: string; name: string }[],
  text: string
): string {
  const named = members.filter(({ name }) => name === text)
  const byKey = /^[0-9a-f]{4,64}$/.test(text) ? members.filter(({ id }) => id.startsWith(text)) : []
  const found = named.length > 0 ? named : byKey
  const [one] = found
  if (one === undefined) {
    throw new ParcelError('USAGE', `no member "${text}": 'hyperparcel members' shows who there is`)
  }
  if (found.length > 1) {
    throw new ParcelError('USAGE', `"${text}" fits ${found.length} members: say its key instead`)
  }
  return one.id
}
