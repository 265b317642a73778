import { ParcelError } from '../errors.js'
import type { Driver } from './driver.js'
import { folder } from './folder.js'
import { qemu } from './qemu.js'
import { v86 } from './v86.js'

const DRIVERS: readonly Driver[] = [folder, v86, qemu]

/** Throws USAGE for a name that no driver has. */
export function driverNamed(name: string): Driver {
  const driver = DRIVERS.find((each) => each.name === name)
  if (driver !== undefined) return driver
  const names = DRIVERS.map((each) => each.name).join(', ')
  throw new ParcelError('USAGE', `no machine monitor is called "${name}": choose one of ${names}`)
}
