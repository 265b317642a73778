import type { TaskEvent } from '../progress.js'

export const SOCKET = 'daemon.sock'
/** A caller names its call, so that another connection can cancel it. */
export const CALL_HEADER = 'x-hyperparcel-call'

export interface DaemonStatus {
  pid: number
  software: string
  bootstrap: string
  started: number
  /** Verbs under way now. */
  active: number
  /** Seconds of idleness after which it ends; null when it stays. */
  idleLimit: number | null
}

/** One JSON object a line of an answer: what comes while a verb works, then its result or an error. */
export type Answer =
  | TaskEvent
  | { type: 'item'; item: unknown }
  | { type: 'result'; value: unknown }
  | { type: 'error'; code: string; message: string }
