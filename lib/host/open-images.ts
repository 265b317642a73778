import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { ITEM_SOCKET } from '../export/item-protocol.js'
import type { Home } from '../home.js'
import type { ImagePlace } from '../info.js'
import type { Known } from '../parcel/history.js'
import type { Parcel } from '../parcel/parcel.js'
import { DAEMON_FLAGS } from '../tuning.js'

/**
 * The version as an image server of any process can open it, with overlays in the home folder. The
 * server goes on when this process ends: it starts a daemon, which then has the store.
 */
export function placeOf(
  home: Home,
  parcel: Parcel,
  { id }: Known,
  { prefetch = true, overlays = homeOverlays(home, parcel) } = {}
): ImagePlace {
  const version = id.toString('hex')
  const daemon = fileURLToPath(new URL('../daemon/main.js', import.meta.url))
  const start = [process.execPath, ...DAEMON_FLAGS, daemon, home.dir]
  const socket = join(home.dir, ITEM_SOCKET)
  const items = { socket, parcel: parcel.id.toString('hex'), version, prefetch, start }
  return { items, overlays, version }
}

/** Where what is written through a mount or NBD is kept. */
export function homeOverlays(home: Home, parcel: Parcel): string {
  return join(home.dir, 'overlays', parcel.id.toString('hex', 0, 8))
}
