import picomatch from 'picomatch'

/** Whether a path is one of some globs, or below it; no globs: every path is. */
export function matcher(globs: readonly string[]): (path: string) => boolean {
  if (globs.length === 0) return () => true
  const folders = globs.map((glob) => glob.replace(/\/+$/, ''))
  return picomatch([...folders, ...folders.map((folder) => `${folder}/**`)], { dot: true })
}
