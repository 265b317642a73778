/** A connected host, as one parcel sees it. */
export interface PeerStatus {
  host: string
  address: string
  /** What the logs go over; `local`: it is a folder that this host serves itself. */
  carrier: 'tcp' | 'udx' | 'local'
  software: string | null
  refusal: string | null
  isCaughtUp: boolean
}
