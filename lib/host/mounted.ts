import { rm } from 'node:fs/promises'
import { describeVersion } from './describe.js'
import { ParcelError } from '../errors.js'
import { hasOverlays, lockFolder, readMarker } from '../export/image-set.js'
import { MAX_TEXT } from '../format/limits.js'
import type { Home } from '../home.js'
import type { SuspendOptions, SuspendResult } from '../info.js'
import { homeOverlays } from './open-images.js'
import type { Known } from '../parcel/history.js'
import type { Parcel } from '../parcel/parcel.js'
import type { Work } from '../progress.js'
import { driverNamed } from '../vmm/drivers.js'

/**
 * Makes a version of what programs wrote through a mount or NBD, as the child of the version that
 * was open. A suspended guest's memory belongs to the disk as it was: with `cold` the new version is
 * without it, so that the machine boots. Throws NOT_RUNNING when nothing was written, RUNNING while it
 * is open, CONFLICT for a suspended guest without `cold`.
 */
export async function commitMounted(
  home: Home,
  parcel: Parcel,
  {
    message = '',
    compress = true,
    cold = false,
    offline = false
  }: SuspendOptions & { cold?: boolean },
  work: Work
): Promise<SuspendResult> {
  if (Buffer.byteLength(message) > MAX_TEXT) {
    throw new ParcelError('USAGE', `a message has at most ${MAX_TEXT} bytes`)
  }
  const overlays = homeOverlays(home, parcel)
  const marker = await readMarker(overlays)
  if (marker === null || !(await hasOverlays(overlays))) {
    throw new ParcelError(
      'NOT_RUNNING',
      `nothing was written to "${parcel.name}" through 'mount' or 'nbd'`
    )
  }
  const lock = await lockFolder(overlays).catch((error: unknown) => {
    const { code } = ParcelError.from(error)
    if (code !== 'RUNNING') throw error
    throw new ParcelError('RUNNING', `"${parcel.name}" is open: end its 'mount' or 'nbd' first`)
  })
  try {
    const known = parcel.history.get(Buffer.from(marker.version, 'hex'))
    if (known === null) {
      const id = marker.version.slice(0, 12)
      throw new ParcelError('UNREACHABLE', `the version ${id} that was open is not known here`)
    }
    const state = await stateIn(parcel, known)
    if (state.size > 0 && !cold) {
      throw new ParcelError(
        'CONFLICT',
        `the memory of "${parcel.name}" belongs to its disk as it was: ` +
          '--cold makes a version without it, which boots'
      )
    }
    const { version, skipped, fetched } = await parcel.author.commit(
      {
        path: null,
        images: {
          version: known.id,
          overlays,
          isImage: ({ path }) => !state.has(path.toString()),
          used: null
        },
        roles: {},
        exclude: () => false,
        facts: known.version.facts,
        message,
        compress,
        offline
      },
      work
    )
    await rm(overlays, { recursive: true, force: true })
    const described = await describeVersion(parcel, version, home)
    return { version: described, skipped, fetched, paused: null }
  } finally {
    await lock.close()
  }
}

/** Files of a version that are a stopped guest's memory and devices. */
async function stateIn(parcel: Parcel, known: Known): Promise<ReadonlySet<string>> {
  const names = new Set(driverNamed(parcel.driver).statePaths)
  const found = new Set<string>()
  for await (const { entry } of parcel.files.contents(known)) {
    const path = entry.path.toString()
    if (names.has(path)) found.add(path)
  }
  return found
}
