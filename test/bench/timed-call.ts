/** What a call took by itself, without the start and the end of a process. Seconds. */
export interface Call {
  wall: number
  cpu: number
}

export async function timedCall<T>(work: () => Promise<T>): Promise<{ value: T; call: Call }> {
  const began = performance.now()
  const before = process.cpuUsage()
  const value = await work()
  const { user, system } = process.cpuUsage(before)
  return { value, call: { wall: (performance.now() - began) / 1e3, cpu: (user + system) / 1e6 } }
}
