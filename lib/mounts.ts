import { readFile } from 'node:fs/promises'

/** A mounted file system, as Linux shows it; elsewhere none are known. */
interface Mount {
  /** Where, absolute. */
  point: string
  /** The minor number of its device. */
  minor: string
}

/** All that this process sees, in the order in which they were mounted. */
export async function mounts(): Promise<Mount[]> {
  const text = await readFile('/proc/self/mountinfo', 'utf8').catch(() => '')
  return text.split('\n').flatMap((line) => {
    const [, , device = '', , point = ''] = line.split(' ')
    const minor = device.split(':')[1]
    return minor === undefined ? [] : [{ point: unescape(point), minor }]
  })
}

/** What is mounted at a folder or below it. */
export async function mountsIn(dir: string): Promise<string[]> {
  const points = (await mounts()).map(({ point }) => point)
  return points.filter((point) => point === dir || point.startsWith(`${dir}/`))
}

/** Blanks, tabs, line ends and backslashes are octal numbers there. */
function unescape(text: string): string {
  return text.replaceAll(/\\([0-7]{3})/g, (_, octal: string) =>
    String.fromCharCode(parseInt(octal, 8))
  )
}
