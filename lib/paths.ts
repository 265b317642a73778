import { lstat, readdir, realpath } from 'node:fs/promises'
import { basename, dirname, join, resolve, sep } from 'node:path'
import { ParcelError } from './errors.js'

/** A path with every symlink on the way resolved, as far as it exists: what would really be written to. */
export async function realDestination(path: string): Promise<string> {
  const absolute = resolve(path)
  try {
    return await realpath(absolute)
  } catch (error) {
    if (!hasCode(error, 'ENOENT') || dirname(absolute) === absolute) {
      throw ParcelError.from(error, `cannot look at ${path}`)
    }
    return join(await realDestination(dirname(absolute)), basename(absolute))
  }
}

/** The real path of a folder that is there. Throws USAGE. */
export async function requireFolder(path: string): Promise<string> {
  try {
    const real = await realpath(path)
    if ((await lstat(real)).isDirectory()) return real
  } catch (error) {
    throw new ParcelError('USAGE', `no folder ${path}`, error)
  }
  throw new ParcelError('USAGE', `${path} is not a folder`)
}

/** Whether `path` is `folder` or lies in it; both absolute and real. */
export function isWithin(path: string, folder: string): boolean {
  const prefix = folder.endsWith(sep) ? folder : folder + sep
  return path === folder || path.startsWith(prefix)
}

/** Whether one of two folders contains the other. */
export function overlaps(a: string, b: string): boolean {
  return isWithin(a, b) || isWithin(b, a)
}

/** Names in a folder; none for one that is not there. Throws CONFLICT for a file. */
export async function namesIn(path: string): Promise<string[]> {
  try {
    return await readdir(path)
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return []
    if (hasCode(error, 'ENOTDIR')) {
      throw new ParcelError('CONFLICT', `${path} is a file, not a folder`)
    }
    throw ParcelError.from(error, `cannot look into ${path}`)
  }
}

export function hasCode(error: unknown, ...codes: string[]): boolean {
  return error instanceof Error && 'code' in error && codes.includes(String(error.code))
}
