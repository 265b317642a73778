/** An error as it goes from thread to thread. */
export interface Failure {
  message: string
  code: string
}

export function failureOf(error: unknown): Failure {
  const message = error instanceof Error ? error.message : String(error)
  return { message, code: error instanceof Error && 'code' in error ? String(error.code) : '' }
}

/** The error again, with its code. */
export function errorOf({ message, code }: Failure): Error {
  return Object.assign(new Error(message), { code })
}
