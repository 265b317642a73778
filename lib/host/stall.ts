import type { ImagesInfo } from '../info.js'
import type { Parcel } from '../parcel/parcel.js'

/** What is long in coming to who reads a parcel's images, and from whom it could; null when nothing is. */
export function stallOf(parcel: Parcel, connected: ReadonlySet<string>): ImagesInfo['stall'] {
  const { stall } = parcel.faults
  if (stall === null) return null
  const { blocks, since } = stall
  const from = [...parcel.peers.trusted()].map(
    (host) => `${parcel.hostName(host)}${connected.has(host) ? '' : ' (not connected)'}`
  )
  const why = `${blocks === 1 ? 'a block' : `${blocks} blocks`} of its disk or memory`
  return { why, from, since }
}
