import type { FileRole } from '../../format/file-table.js'
import type { Stream } from '../../log/pack-writer.js'

/** Roles of a machine's files by their paths; plain files are not in it. */
export type Roles = Readonly<Record<string, FileRole>>

/** What a machine needs before it starts, where it is not large: bytes. */
export const FIRST: ReadonlySet<FileRole> = new Set(['config', 'nvram', 'device'])
export const SMALL_STATE = 1_048_576
/** What nobody but a monitor writes to, which has ended or stands still. */
export const STILL: ReadonlySet<FileRole> = new Set(['memory', 'device', 'disk', 'nvram'])

/** A file may be called as what every object has: only what was said of it counts. */
export function roleOf(name: string, roles: Roles): FileRole | undefined {
  return Object.hasOwn(roles, name) ? roles[name] : undefined
}

/** Guest memory is wanted in small pieces. */
export function streamOf(role: FileRole): Stream {
  return role === 'memory' || role === 'device' ? 'memory' : 'disk'
}
