/** Every failure a user can meet. The command line maps each to an exit status in `cli/exit.ts`. */
export const ERROR_CODES = [
  'FAILED',
  'USAGE',
  'PARTIAL',
  'CONFLICT',
  'TOO_FEW_COPIES',
  'UNREACHABLE',
  'TIMED_OUT',
  'INTEGRITY',
  'NEWER_FORMAT',
  'FORKED',
  'NO_STORE',
  'STORE_IN_USE',
  'LEASE_HELD',
  'BAD_KEY',
  'NOT_YOURS',
  'LOCKED',
  'FORBIDDEN',
  'BAD_INVITE',
  'INVITE_EXPIRED',
  'INVITE_USED',
  'REVOKED',
  'DISK_FULL',
  'INTERRUPTED',
  'UNKNOWN_PARCEL',
  'UNKNOWN_VERSION',
  'NAME_TAKEN',
  'BAD_MACHINE',
  'HOST_MISMATCH',
  'NOT_RUNNING',
  'RUNNING',
  'VMM_FAILED'
] as const

export type ErrorCode = (typeof ERROR_CODES)[number]

export function isErrorCode(text: string): text is ErrorCode {
  return ERROR_CODES.some((code) => code === text)
}

/**
 * The one error class. `message` is one line for a person: what happened and what to do next.
 * The original error, if there was one, is `cause`.
 */
export class ParcelError extends Error {
  readonly code: ErrorCode

  constructor(code: ErrorCode, message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause })
    this.name = 'ParcelError'
    this.code = code
  }

  /** Turns anything thrown into a ParcelError; a full disk and an abort keep their meaning. */
  static from(error: unknown, context = ''): ParcelError {
    if (error instanceof ParcelError) return error
    const prefix = context === '' ? '' : `${context}: `
    const reason = error instanceof Error ? error : new Error(String(error))
    const errno = 'code' in reason ? String(reason.code) : ''
    if (
      errno === 'ENOSPC' ||
      errno === 'EDQUOT' ||
      /no space left on device/i.test(reason.message)
    ) {
      return new ParcelError(
        'DISK_FULL',
        `${prefix}the disk is full: free some space and do it again`,
        reason
      )
    }
    if (isDamage(reason)) {
      const advice =
        "the store is damaged on this disk: 'hyperparcel verify' has it sent again, " +
        "'hyperparcel rebuild' fetches all of it anew"
      return new ParcelError('INTEGRITY', prefix + advice, reason)
    }
    if (reason.name === 'AbortError' || errno === 'ABORT_ERR') {
      return new ParcelError(
        'INTERRUPTED',
        `${prefix}interrupted, nothing half-done is left`,
        reason
      )
    }
    return new ParcelError('FAILED', prefix + (reason.message.split('\n')[0] ?? ''), reason)
  }

  /** An error that crossed a socket as code and message. */
  static revive({ code, message }: { code: string; message: string }): ParcelError {
    return new ParcelError(ERROR_CODES.find((known) => known === code) ?? 'FAILED', message)
  }
}

/** Whether that is an error that crossed a socket, for `revive`. */
export function isRevivable(value: unknown): value is { code: string; message: string } {
  if (typeof value !== 'object' || value === null || !('code' in value)) return false
  return typeof value.code === 'string' && 'message' in value && typeof value.message === 'string'
}

/** Its words for what its check sums, headers and magic numbers tell it; it leaves out its own word for the kind. */
const DAMAGE =
  /corrupt|(checksum|crc|size|magic number) mismatch|mismatch when reading|decoding (header|blob)|malformed blob/i

/** Whether RocksDB says that a file of its is not what it wrote. */
export function isDamage(error: unknown): boolean {
  return error instanceof Error && DAMAGE.test(error.message)
}

/** For `catch`: a file that is not there is null; whatever else is wrong is thrown. */
export function nullIfAbsent(error: unknown): null {
  if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return null
  throw error
}

/** For what may be on another host: null then, and every other error goes on. */
export function nullIfElsewhere(error: unknown): null {
  if (error instanceof ParcelError && error.code === 'UNREACHABLE') return null
  throw error
}
