import { lstat, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { ParcelError } from '../errors.js'
import type { Driver, Facts } from './driver.js'

/** The supervisor writes it beside the machine file; it grows while the guest prints. */
export const CONSOLE_LOG = 'console.log'

/** Throws HOST_MISMATCH, naming what differs and what to do, before anything is fetched. */
export async function requireFit(driver: Driver, facts: Facts): Promise<void> {
  const mismatches = await driver.mismatches(facts)
  if (mismatches.length === 0) return
  const lines = mismatches.map(
    ({ fact, wanted, here, advice }) =>
      `${fact} is ${here === '' ? 'missing' : here} here, ${wanted} there (${advice})`
  )
  throw new ParcelError('HOST_MISMATCH', `this machine cannot go on here: ${lines.join('; ')}`)
}

/** In a machine's `state` folder only what its driver knows belongs into a version. */
export function isScratch(driver: Driver): (path: string) => boolean {
  if (driver.statePaths.length === 0) return () => false
  return (path) => path.startsWith('state/') && !driver.statePaths.includes(path)
}

/** Whether a folder holds a stopped guest: all of its state files, but for those that are served. */
export async function hasMachineState(
  driver: Driver,
  path: string,
  served: ReadonlySet<string> = new Set()
): Promise<boolean> {
  for (const name of driver.statePaths) {
    if (served.has(name)) continue
    try {
      await lstat(join(path, name))
    } catch {
      return false
    }
  }
  return driver.statePaths.length > 0
}

/** Removes a guest's memory and device state from a folder. */
export async function removeMachineState(driver: Driver, path: string): Promise<void> {
  for (const name of driver.statePaths) await rm(join(path, name), { force: true })
}
