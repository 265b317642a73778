import { lstat, realpath } from 'node:fs/promises'
import { join, sep } from 'node:path'
import { z } from 'zod'

/** The machine file's name within the parcel's folder. */
export const MACHINE_FILE = 'machine.json'

/** A machine file has at most so many bytes. */
export const MACHINE_FILE_LIMIT = 64 * 1024

/** A path in a machine file, checked by itself: `findFile` looks where it leads. */
export const filePath = z
  .string('must be the path of a file in the folder')
  .refine(
    (text) => /^[^\0\\]+$/.test(text) && text.split('/').every((name) => !/^\.{0,2}$/.test(name)),
    'must be a relative path within the folder, with "/" between names and no "." or ".."'
  )
  .refine(
    (text) => text !== MACHINE_FILE && text.split('/')[0] !== 'state',
    'must not be the machine file or in state/, which holds the suspended guest'
  )

/** A plain file by its real path and size, or what is wrong with it. */
export type FoundFile =
  | { is: 'file'; real: string; size: number }
  | { is: 'missing'; cause: unknown }
  | { is: 'outside' }
  | { is: 'other' }

/**
 * Looks for a file of the folder. One that a link leads out of it is 'outside', whatever it is:
 * a machine comes from another host, and may name any path.
 */
export async function findFile(dir: string, path: string): Promise<FoundFile> {
  let real: string
  try {
    real = await realpath(join(dir, path))
  } catch (cause) {
    return { is: 'missing', cause }
  }
  if (!real.startsWith(join(await realpath(dir), sep))) return { is: 'outside' }
  const status = await lstat(real)
  return status.isFile() ? { is: 'file', real, size: status.size } : { is: 'other' }
}
