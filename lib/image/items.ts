import type { Place } from '../format/entry.js'

/** Gives chunks and pages by place. The log is one; another process over a socket can be one too. */
export interface ItemSource {
  /** `id`: what the item is known by, for a source that may find it elsewhere. The caller checks it. */
  read(place: Place, id?: Buffer): Promise<Buffer>
}

/** Takes manifest pages. The place is known when the pack that got the page is closed. */
export interface PageSink {
  add(stream: 'ids' | 'places', id: Buffer, bytes: Buffer): Promise<Place>
}
