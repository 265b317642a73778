import { z } from 'zod'
import { ParcelError } from '../errors.js'
import type { Host } from '../host.js'
import { POLICIES, type ResumeOptions } from '../info.js'
import { SCANS } from '../parcel/scan.js'
import type { Task, TaskEvent } from '../progress.js'

/** What a verb may do besides returning its result. */
export interface VerbContext {
  host: Host
  emit: (event: TaskEvent) => void
  signal: AbortSignal
}

const text = z.string().max(4_096)
const ms = z.number().int().min(0).max(86_400_000)
const nothing = z.strictObject({})
const named = z.strictObject({ name: text })
const commit = z.strictObject({
  name: text,
  message: text,
  compress: z.boolean(),
  scan: z.enum(SCANS).optional()
})

/** Everything the daemon does for others, by name: parameters checked, result as JSON. */
export const verbs = {
  id: verb(nothing, async (_, { host }) => ({
    id: host.id,
    name: host.name,
    home: host.home.dir
  })),
  ls: verb(nothing, async (_, { host }) => ({
    parcels: await host.list(),
    problems: [...host.problems]
  })),
  add: verb(z.strictObject({ path: text, name: text, vm: text }), ({ path, ...rest }, { host }) =>
    host.add(path, rest)
  ),
  log: verb(named, ({ name }, { host }) => host.log(name)),
  status: verb(named, ({ name }, { host }) => host.status(name)),
  run: verb(z.strictObject({ name: text, cold: z.boolean() }), ({ name, cold }, { host }) =>
    host.run(name, { cold })
  ),
  stop: verb(named, async ({ name }, { host }) => {
    await host.stop(name)
    return {}
  }),
  suspend: verb(commit, ({ name, scan = 'mtime', ...options }, context) =>
    follow(context.host.suspend(name, { ...options, scan }), context)
  ),
  'suspend-mounted': verb(
    z.strictObject({ name: text, message: text, compress: z.boolean(), cold: z.boolean() }),
    ({ name, ...options }, context) => follow(context.host.suspendMounted(name, options), context)
  ),
  checkpoint: verb(commit, ({ name, scan = 'mtime', ...options }, context) =>
    follow(context.host.checkpoint(name, { ...options, scan }), context)
  ),
  resume: verb(
    z.strictObject({
      name: text,
      version: text.optional(),
      to: text.optional(),
      cwd: text,
      force: z.boolean(),
      policy: z.enum(POLICIES).optional(),
      prefetch: z.boolean().optional(),
      lookaside: z.array(text).max(64).optional(),
      start: z.boolean(),
      timeout: ms
    }),
    (
      { name, version, to, policy = 'demand', prefetch = true, lookaside = [], ...rest },
      context
    ) => {
      const options: ResumeOptions = { ...rest, policy, prefetch, lookaside }
      if (version !== undefined) options.version = version
      if (to !== undefined) options.to = to
      return follow(context.host.resume(name, options), context)
    }
  ),
  open: verb(
    z.strictObject({ name: text, version: text.optional(), timeout: ms }),
    ({ name, version, timeout }, context) => {
      const options = version === undefined ? { timeout } : { timeout, version }
      return follow(context.host.open(name, options), context)
    }
  ),
  invite: verb(z.strictObject({ name: text, ttl: ms }), ({ name, ttl }, { host }) =>
    host.invite(name, { ttl })
  ),
  join: verb(
    z.strictObject({ invite: text, name: text.optional(), timeout: ms }),
    ({ invite, name, timeout }, context) => {
      const options = name === undefined ? { timeout } : { timeout, name }
      return follow(context.host.join(invite, options), context)
    }
  ),
  /** Where a running machine's console is; the caller connects by itself. */
  attach: verb(named, async ({ name }, { host }) => ({ runDir: host.runDir(name) }))
}

export type Verb = keyof typeof verbs
type Run<V extends Verb> = (typeof verbs)[V]['run']
export type Parameters<V extends Verb> =
  Run<V> extends (parameters: infer P, context: VerbContext) => unknown ? P : never
export type Result<V extends Verb> = Awaited<ReturnType<Run<V>>>

export function isVerb(name: string): name is Verb {
  return Object.hasOwn(verbs, name)
}

function verb<P, R>(
  schema: z.ZodType<P>,
  run: (parameters: P, context: VerbContext) => Promise<R>
) {
  return {
    run,
    /** Throws ParcelError; USAGE for parameters that do not fit. */
    async call(value: unknown, context: VerbContext): Promise<R> {
      const parsed = schema.safeParse(value)
      if (!parsed.success) {
        const issues = parsed.error.issues.map(
          ({ path, message }) => `${path.join('.')}: ${message}`
        )
        throw new ParcelError('USAGE', issues.join('; '), parsed.error)
      }
      return run(parsed.data, context)
    }
  }
}

/** Passes a task's progress on and returns its result; the task ends when the caller goes away. */
async function follow<T>(task: Task<T>, { emit, signal }: VerbContext): Promise<T> {
  const cancel = (): void => task.cancel()
  if (signal.aborted) cancel()
  signal.addEventListener('abort', cancel, { once: true })
  try {
    for await (const event of task) emit(event)
    return await task
  } finally {
    signal.removeEventListener('abort', cancel)
  }
}
