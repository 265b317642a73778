import type { Version } from '../../lib/format/version.js'
import { Identity } from '../../lib/keys/identity.js'

export const PARCEL = Buffer.alloc(32, 1)
export const AUTHOR = Identity.create()

/** A version record, as if it stood in some log. */
export function version(fields: Partial<Version> = {}): Version {
  return {
    chunking: 2,
    parcel: PARCEL,
    author: AUTHOR.publicKey,
    parents: [],
    created: 0,
    driver: 'folder',
    facts: {},
    table: { size: 0, root: null },
    totals: { files: 0, bytes: 0, stored: 0 },
    message: '',
    leaseEpoch: 0,
    cores: [],
    extensions: [],
    ...fields
  }
}
