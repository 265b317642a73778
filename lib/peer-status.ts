/** A connected host, as one parcel sees it. */
export interface PeerStatus {
  host: string
  address: string
  software: string | null
  refusal: string | null
  isCaughtUp: boolean
}
