/**
 * What a commit reads: `mtime` leaves out files whose size, times and inode are as they were when
 * the folder's version was made, `full` reads everything.
 */
export const SCANS = ['mtime', 'full'] as const
export type Scan = (typeof SCANS)[number]

/** Ranges of a file, [offset, length] in bytes, by path: all that was written to it since the folder's version. */
export type DirtyMap = Readonly<Record<string, readonly (readonly [number, number])[]>>
