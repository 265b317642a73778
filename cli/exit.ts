import type { ErrorCode } from '../lib/index.js'

/** Exit status of every error code; 0 is success. The README has the same table. */
export const EXIT: Readonly<Record<ErrorCode, number>> = {
  FAILED: 1,
  UNKNOWN_PARCEL: 1,
  UNKNOWN_VERSION: 1,
  NAME_TAKEN: 1,
  BAD_MACHINE: 1,
  HOST_MISMATCH: 1,
  NOT_RUNNING: 1,
  RUNNING: 1,
  VMM_FAILED: 1,
  STORE_IN_USE: 1,
  NEWER_FORMAT: 1,
  USAGE: 2,
  BAD_INVITE: 2,
  PARTIAL: 3,
  CONFLICT: 4,
  TOO_FEW_COPIES: 5,
  UNREACHABLE: 6,
  TIMED_OUT: 6,
  INTEGRITY: 7,
  FORKED: 8,
  NO_STORE: 10,
  LEASE_HELD: 11,
  BAD_KEY: 12,
  NOT_YOURS: 12,
  INVITE_EXPIRED: 12,
  INVITE_USED: 12,
  REVOKED: 13,
  DISK_FULL: 14,
  INTERRUPTED: 130
}
