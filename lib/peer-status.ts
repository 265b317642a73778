/** A connected host, as one parcel sees it. */
export interface PeerStatus {
  host: string
  address: string
  /** What the logs go over. */
  carrier: 'tcp' | 'udx'
  software: string | null
  refusal: string | null
  isCaughtUp: boolean
}
