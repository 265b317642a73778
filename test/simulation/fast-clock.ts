import { syncBuiltinESMExports } from 'node:module'
import timers from 'node:timers/promises'

/**
 * From now on time of this process goes so many times as fast: what waits for seconds waits for as many
 * milliseconds of the machine's. Returns how to end that.
 */
export function speedUp(times: number): () => void {
  const real = { setTimeout, setInterval, sleep: timers.setTimeout }
  const now = performance.now.bind(performance)
  const began = now()
  /** A function like `start`, with a shorter wait as its argument `at`. */
  const fast = <T extends (...args: never[]) => unknown>(start: T, at: number): T =>
    new Proxy(start, {
      apply: (target, self, args: unknown[]) => {
        const sooner = [...args]
        sooner[at] = Number(args[at] ?? 0) / times
        return Reflect.apply(target, self, sooner)
      }
    })
  globalThis.setTimeout = fast(real.setTimeout, 1)
  globalThis.setInterval = fast(real.setInterval, 1)
  timers.setTimeout = fast(real.sleep, 0)
  performance.now = () => began + (now() - began) * times
  syncBuiltinESMExports()
  return () => {
    globalThis.setTimeout = real.setTimeout
    globalThis.setInterval = real.setInterval
    timers.setTimeout = real.sleep
    performance.now = now
    syncBuiltinESMExports()
  }
}
