import { ParcelError } from '../errors.js'
import type { Driver } from './driver.js'

/** A folder of files that no monitor runs: suspend stores it, resume puts it there. */
export const folder: Driver = {
  name: 'folder',
  statePaths: [],
  imageRoles: [],
  needsServer: false,
  prepare: () => Promise.resolve(false),
  describe: (dir, images = null) => Promise.resolve({ dir, images, roles: {} }),
  facts: () => Promise.resolve({}),
  mismatches: () => Promise.resolve([]),
  start: () =>
    Promise.reject(new ParcelError('USAGE', 'a folder does not run: only suspend and resume it'))
}
