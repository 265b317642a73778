import { readFile } from 'node:fs/promises'

/** Of these a second is made, in what Linux tells programs. */
const TICKS = 100

/** Seconds of processor time that a process has had; null where the system has no /proc. */
export async function cpuTimeOf(pid: number): Promise<number | null> {
  const text = await readFile(`/proc/${pid}/stat`, 'latin1').catch(() => null)
  if (text === null) return null
  // Its name comes second, in parentheses, and may have anything in it: see proc(5).
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ')
  const [user, system] = [Number(fields[11]), Number(fields[12])]
  return Number.isFinite(user + system) ? (user + system) / TICKS : null
}
