/** Ranges of a file, [offset, length] in bytes, by path: all that was written to it since the folder's version. */
export type DirtyMap = Readonly<Record<string, readonly (readonly [number, number])[]>>
