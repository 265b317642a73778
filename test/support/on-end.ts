import type { TestContext } from 'node:test'

const stacks = new WeakMap<TestContext, (() => unknown)[]>()

/**
 * Cleans up after a test, last come first gone: a host before its DHT, both before their folder.
 * (Hooks of node:test run first come first gone.)
 */
export function onEnd(t: TestContext, work: () => unknown): void {
  const known = stacks.get(t)
  if (known !== undefined) {
    known.push(work)
    return
  }
  const stack = [work]
  stacks.set(t, stack)
  t.after(async () => {
    const failures: unknown[] = []
    for (const each of stack.toReversed()) {
      try {
        await each()
      } catch (error) {
        failures.push(error)
      }
    }
    if (failures.length > 0) throw new AggregateError(failures, 'could not clean up')
  })
}
