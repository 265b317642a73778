import assert from 'node:assert/strict'
import { ParcelError, type ErrorCode } from '../../lib/errors.js'

/** Asserts that the work throws a ParcelError with this code. */
export function refuses(code: ErrorCode, work: () => unknown, message?: string): void {
  assert.throws(
    work,
    (error) => {
      assert.ok(error instanceof ParcelError, `${message ?? ''} threw ${String(error)}`)
      assert.equal(error.code, code, `${message ?? ''} ${error.message}`)
      return true
    },
    message
  )
}

/** What the work returns, or the code with which it refuses; anything else that it throws goes on. */
export function outcome<T>(work: () => T): { value: T } | { code: ErrorCode } {
  try {
    return { value: work() }
  } catch (error) {
    if (error instanceof ParcelError) return { code: error.code }
    throw error
  }
}
