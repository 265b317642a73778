const NUL = '\0'
const SLASH = Buffer.from('/')

/** Paths as one text, a character a byte, which goes to a thread sooner than many buffers. */
export function joinPaths(paths: readonly Buffer[]): string {
  return paths.map((path) => path.toString('latin1')).join(NUL)
}

/** Undoes `joinPaths` of one path or more. */
export function splitPaths(paths: string): Buffer[] {
  return paths.split(NUL).map((path) => Buffer.from(path, 'latin1'))
}

/** The path of what is called `name` in a folder. */
export function below(folder: Buffer, name: Buffer): Buffer {
  return Buffer.concat([folder, SLASH, name])
}
