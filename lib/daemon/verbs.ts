import { z } from 'zod'
import { CONSISTENCIES, isHoardedVersions, POLICIES, SCANS } from '../choices.js'
import { ParcelError } from '../errors.js'
import { ROLES } from '../format/control-record.js'
import type { HostEvent } from '../host/events.js'
import type { Host } from '../host.js'
import { meteredOn } from '../limits/limits.js'
import { limitRule } from '../limits/rule.js'
import type { FileInfo, LossInfo, ResumeOptions, VersionInfo } from '../info.js'
import type { Change } from '../parcel/diff.js'
import type { Task, TaskEvent } from '../progress.js'
import type { Vaults } from '../host/vaults.js'

/** What a verb may do besides returning its result. */
export interface VerbContext {
  host: Host
  vaults: Vaults
  emit: (event: TaskEvent) => void
  /** Sends one of many results; settles when the caller can take the next. */
  give: (item: unknown) => Promise<void>
  signal: AbortSignal
}

const text = z.string().max(4_096)
const ms = z.number().int().min(0).max(86_400_000)
/** null: as many as there are. */
const bytes = z.number().int().min(0).max(Number.MAX_SAFE_INTEGER).nullable()
const path = z.strictObject({ path: text })
const count = z.number().int().min(0).max(1_000_000)
const policy = z.strictObject({
  last: count,
  daily: count,
  weekly: count,
  tags: z.array(z.string().max(256)).max(64)
})
const nothing = z.strictObject({})
const named = z.strictObject({ name: text })
const commit = z.strictObject({
  name: text,
  message: text,
  compress: z.boolean(),
  scan: z.enum(SCANS).optional(),
  offline: z.boolean().optional()
})

/** Everything the daemon does for others, by name: parameters checked, result as JSON. */
export const verbs = {
  id: verb(nothing, async (_, { host }) => ({
    id: host.id,
    name: host.name,
    home: host.home.dir,
    refused: host.refused,
    wrongGuesses: host.wrongGuesses
  })),
  ls: verb(nothing, async (_, { host }) => ({
    parcels: await host.list(),
    problems: [...host.problems]
  })),
  add: verb(z.strictObject({ path: text, name: text, vm: text }), ({ path, ...rest }, { host }) =>
    host.add(path, rest)
  ),
  log: listing(named, async ({ name }, { host }, give: Give<VersionInfo>) => {
    for (const version of await host.log(name)) await give(version)
    return {}
  }),
  show: listing(
    z.strictObject({ name: text, version: text.optional(), timeout: ms }),
    ({ name, version, timeout }, context, give: Give<FileInfo>) => {
      const options = version === undefined ? { timeout } : { timeout, version }
      return follow(context.host.versions.show(name, options, give), context)
    }
  ),
  diff: listing(
    z.strictObject({ name: text, from: text, to: text.optional(), timeout: ms }),
    ({ name, from, to, timeout }, context, give: Give<Change>) => {
      const options = to === undefined ? { from, timeout } : { from, to, timeout }
      return follow(context.host.versions.diff(name, options, give), context)
    }
  ),
  restore: verb(
    z.strictObject({
      name: text,
      version: text,
      to: text,
      paths: z.array(text).max(1_024),
      timeout: ms
    }),
    ({ name, ...options }, context) => follow(context.host.versions.restore(name, options), context)
  ),
  verify: listing(
    z.strictObject({
      name: text.optional(),
      sample: z.number().min(0).max(1),
      timeout: ms
    }),
    ({ name, ...options }, context, give: Give<LossInfo>) =>
      follow(context.host.upkeep.verify(name ?? null, options, give), context)
  ),
  scrub: verb(z.strictObject({ quota: bytes.unwrap().optional() }), async ({ quota }, { host }) => {
    if (quota !== undefined) await host.scrub.setQuota(quota)
    return host.scrub.info
  }),
  salvage: listing(
    z.strictObject({ name: text, version: text.optional(), to: text }),
    ({ name, version, to }, context, give: Give<LossInfo>) => {
      const options = version === undefined ? { to } : { to, version }
      return follow(context.host.upkeep.salvage(name, options, give), context)
    }
  ),
  forget: verb(
    z.strictObject({
      name: text,
      versions: z.array(text).max(10_000),
      policy: policy.nullable(),
      isDry: z.boolean()
    }),
    ({ name, ...options }, { host }) => host.retention.forget(name, options)
  ),
  remember: verb(
    z.strictObject({ name: text, versions: z.array(text).max(10_000) }),
    async ({ name, versions }, { host }) => {
      await host.retention.remember(name, versions)
      return {}
    }
  ),
  retention: verb(
    z.strictObject({ name: text, policy: policy.nullable().optional() }),
    async (wanted, { host }) => {
      if (wanted.policy !== undefined) await host.retention.setPolicy(wanted.name, wanted.policy)
      return { policy: host.retention.policy(wanted.name) }
    }
  ),
  prune: verb(z.strictObject({ name: text, timeout: ms }), ({ name, timeout }, context) =>
    follow(context.host.retention.prune(name, { timeout }), context)
  ),
  copies: verb(
    z.strictObject({ name: text, count: z.number().optional() }),
    async ({ name, count }, { host }) => {
      if (count !== undefined) await host.versions.setCopies(name, count)
      return { copies: (await host.status(name)).copies }
    }
  ),
  'forget-rollbacks': verb(nothing, async (_, { host }) => {
    await host.versions.forgetRollbacks()
    return {}
  }),
  consistency: verb(
    z.strictObject({
      name: text,
      consistency: z.enum(CONSISTENCIES).optional(),
      days: z.number().optional()
    }),
    async ({ name, consistency, days }, { host }) => {
      await host.leases.setConsistency(name, {
        ...(consistency === undefined ? {} : { consistency }),
        ...(days === undefined ? {} : { days })
      })
      const now = await host.status(name)
      return { consistency: now.consistency, days: now.days }
    }
  ),
  safe: listing(
    z.strictObject({ name: text, version: text, on: text.nullable(), timeout: ms }),
    ({ name, ...options }, context, give: Give<VersionInfo>) =>
      follow(context.host.versions.safe(name, options, give), context)
  ),
  predict: verb(named, async ({ name }, { host }) => host.nextSite.predict(name)),
  wakes: verb(nothing, async (_, { host }) => ({ hosts: host.nextSite.wakes() })),
  wake: verb(z.strictObject({ host: text }), ({ host: member }, { host }) =>
    host.nextSite.wake(member)
  ),
  'wake-set': verb(
    z.strictObject({ host: text, mac: text.nullable() }),
    ({ host: member, mac }, { host }) => host.nextSite.setWake(member, mac)
  ),
  tags: verb(named, async ({ name }, { host }) => ({ tags: host.versions.tags(name) })),
  tag: verb(
    z.strictObject({ name: text, tag: text, version: text.optional(), force: z.boolean() }),
    ({ name, tag, version, force }, { host }) =>
      host.versions.tag(name, tag, version === undefined ? { force } : { force, version })
  ),
  untag: verb(z.strictObject({ name: text, tag: text }), async ({ name, tag }, { host }) => {
    await host.versions.untag(name, tag)
    return {}
  }),
  rename: verb(z.strictObject({ name: text, to: text }), async ({ name, to }, { host }) => {
    await host.versions.rename(name, to)
    return {}
  }),
  rollback: verb(
    z.strictObject({ name: text, version: text, message: text }),
    ({ name, version, message }, { host }) => host.versions.rollback(name, version, { message })
  ),
  'resolve-take': verb(
    z.strictObject({ name: text, version: text }),
    ({ name, version }, { host }) => host.versions.take(name, version)
  ),
  'resolve-keep': verb(
    z.strictObject({ name: text, names: z.array(text).max(64) }),
    async ({ name, names }, { host }) => ({ branches: await host.versions.keepAll(name, names) })
  ),
  discard: verb(z.strictObject({ name: text, timeout: ms }), ({ name, timeout }, context) =>
    follow(context.host.versions.discard(name, { timeout }), context)
  ),
  'discard-mounted': verb(named, async ({ name }, { host }) => {
    await host.versions.discardMounted(name)
    return {}
  }),
  status: verb(named, ({ name }, { host }) => host.status(name)),
  run: verb(z.strictObject({ name: text, cold: z.boolean() }), ({ name, cold }, context) =>
    follow(context.host.run(name, { cold }), context)
  ),
  lease: verb(named, async ({ name }, { host }) => ({ lease: host.leases.get(name) })),
  'lease-take': verb(
    z.strictObject({ name: text, timeout: ms, isForced: z.boolean() }),
    ({ name, ...options }, context) => follow(context.host.leases.take(name, options), context)
  ),
  'lease-give': verb(z.strictObject({ name: text, host: text }), ({ name, host }, context) =>
    context.host.leases.handOver(name, host)
  ),
  stop: verb(named, async ({ name }, { host }) => {
    await host.stop(name)
    return {}
  }),
  remove: verb(
    z.strictObject({ name: text, force: z.boolean() }),
    async ({ name, force }, { host }) => {
      await host.remove(name, { force })
      return {}
    }
  ),
  suspend: verb(commit, ({ name, scan = 'mtime', offline = false, ...options }, context) =>
    follow(context.host.suspend(name, { ...options, scan, offline }), context)
  ),
  'suspend-mounted': verb(
    z.strictObject({
      name: text,
      message: text,
      compress: z.boolean(),
      cold: z.boolean(),
      offline: z.boolean()
    }),
    ({ name, ...options }, context) => follow(context.host.suspendMounted(name, options), context)
  ),
  checkpoints: verb(
    z.strictObject({
      name: text,
      every: z.number().int().min(0).nullable().optional(),
      idle: z.number().int().min(0).nullable().optional()
    }),
    async ({ name, ...policy }, { host }) => host.checkpoints.set(name, policy)
  ),
  hoard: verb(named, async ({ name }, { host }) => host.retention.hoard(name)),
  'hoard-set': verb(
    z.strictObject({ name: text, versions: text, files: z.array(text).max(64) }),
    async ({ name, versions, files }, { host }) => {
      if (!isHoardedVersions(versions)) {
        throw new ParcelError('USAGE', 'versions: head, last:N, all or none')
      }
      await host.retention.setHoard(name, { versions, files })
      return host.retention.hoard(name)
    }
  ),
  limits: verb(nothing, async (_, { host }) => host.limits.info),
  'limits-set': verb(
    z.strictObject({
      rule: limitRule.nullable(),
      isCleared: z.boolean(),
      isMetered: z.boolean().optional(),
      meteredOn: meteredOn.optional(),
      weakBelow: z.number().int().min(1).nullable().optional(),
      relays: z.boolean().optional()
    }),
    async ({ rule, isCleared, isMetered, meteredOn: names, weakBelow, relays }, { host }) => {
      if (isCleared) await host.limits.clear()
      if (rule !== null) await host.limits.set(rule)
      if (isMetered !== undefined) await host.limits.setMetered(isMetered)
      if (names !== undefined) await host.limits.setMeteredOn(names)
      if (weakBelow !== undefined) await host.limits.setWeakBelow(weakBelow)
      if (relays !== undefined) await host.limits.setRelays(relays)
      return host.limits.info
    }
  ),
  pause: verb(
    z.strictObject({ name: text.optional(), isPaused: z.boolean() }),
    async ({ name, isPaused }, { host }) => {
      await host.pause(name ?? null, isPaused)
      return host.limits.info
    }
  ),
  'suspend-on': verb(
    z.strictObject({ name: text, host: text, grace: ms, timeout: ms }),
    ({ name, host, ...how }, context) =>
      follow(context.host.remoteSuspend.ask(name, host, how), context)
  ),
  'suspend-refuse': verb(named, async ({ name }, { host }) => host.remoteSuspend.refuse(name)),
  events: listing(
    z.strictObject({
      name: text.optional(),
      since: z.number().int().min(0),
      isFollowed: z.boolean()
    }),
    async ({ name, since, isFollowed }, { host, signal }, give: Give<HostEvent>) => {
      const isWanted = ({ parcel }: HostEvent): boolean => name === undefined || parcel === name
      // Also of one that was removed.
      if (name !== undefined && !host.events.since(0).some(isWanted)) await host.status(name)
      let last = since
      for (;;) {
        for (const event of host.events.since(last)) {
          last = event.number
          if (isWanted(event)) await give(event)
        }
        if (!isFollowed) return {}
        await host.events.next(last, signal)
      }
    }
  ),
  checkpoint: verb(commit, ({ name, scan = 'mtime', offline = false, ...options }, context) =>
    follow(context.host.checkpoint(name, { ...options, scan, offline }), context)
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
      timeout: ms,
      offline: z.boolean().optional()
    }),
    (
      {
        name,
        version,
        to,
        policy = 'demand',
        prefetch = true,
        lookaside = [],
        offline = false,
        ...rest
      },
      context
    ) => {
      const options: ResumeOptions = { ...rest, policy, prefetch, lookaside, offline }
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
  invite: verb(
    z.strictObject({
      name: text,
      ttl: ms,
      role: z.enum(ROLES).optional(),
      /** Whether somebody is asked about who comes: `invite-wait`, `invite-answer`. */
      ask: z.boolean().optional()
    }),
    async ({ name, ttl, role = 'runner', ask = false }, { host }) => {
      if (!ask) return { id: null, ...(await host.invite(name, { ttl, role })) }
      const { id, approve } = host.approvals.open()
      return { id, ...(await host.invite(name, { ttl, role, approve })) }
    }
  ),
  link: verb(z.strictObject({ ttl: ms, ask: z.boolean() }), async ({ ttl, ask }, { host }) => {
    if (!ask) return { id: null, ...(await host.link({ ttl })) }
    const { id, approve } = host.approvals.open()
    return { id, ...(await host.link({ ttl, approve })) }
  }),
  'invite-wait': verb(z.strictObject({ id: text }), ({ id }, { host, signal }) =>
    host.approvals.newcomer(id, signal)
  ),
  'invite-answer': verb(
    z.strictObject({ id: text, isAllowed: z.boolean() }),
    async ({ id, isAllowed }, { host }) => {
      host.approvals.answer(id, isAllowed)
      return {}
    }
  ),
  revoke: verb(z.strictObject({ name: text, host: text }), ({ name, host: member }, { host }) =>
    host.revoke(name, member)
  ),
  rotate: verb(named, ({ name }, { host }) => host.rotate(name)),
  join: verb(
    z.strictObject({
      invite: text,
      name: text.optional(),
      timeout: ms,
      asVault: z.boolean().optional()
    }),
    ({ invite, name, timeout, asVault = false }, context) => {
      const options = name === undefined ? { timeout, asVault } : { timeout, asVault, name }
      return follow(context.host.joinAll(invite, options), context)
    }
  ),
  quota: verb(z.strictObject({ bytes }), async ({ bytes: limit }, { host }) => {
    await host.setQuota(limit)
    return host.room()
  }),
  vaults: verb(nothing, async (_, { host, vaults }) => ({
    vaults: await vaults.list(),
    ...(await host.room())
  })),
  'vault-add': verb(
    z.strictObject({
      path: text,
      names: z.array(text).max(1_024),
      quota: bytes.optional(),
      wait: z.boolean()
    }),
    ({ path, quota, ...options }, context) =>
      follow(
        context.vaults.add(path, quota === undefined ? options : { ...options, quota }),
        context
      )
  ),
  carry: verb(
    z.strictObject({ path: text, name: text, to: z.array(text).max(64), wait: z.boolean() }),
    ({ path, name, ...options }, context) =>
      follow(context.vaults.carry(path, name, options), context)
  ),
  'carry-take': verb(path, ({ path: dir }, context) => follow(context.vaults.take(dir), context)),
  'vault-release': verb(path, ({ path: dir }, { vaults }) => vaults.release(dir)),
  'vault-forget': verb(path, ({ path: dir }, { vaults }) => vaults.forget(dir)),
  recover: verb(z.strictObject({ timeout: ms }), ({ timeout }, context) =>
    follow(context.host.recover({ timeout }), context)
  ),
  /** Where a running machine's console is; the caller connects by itself. */
  attach: verb(named, async ({ name }, { host }) => ({ runDir: host.runDir(name) }))
}

export type Verb = keyof typeof verbs
type Run<V extends Verb> = (typeof verbs)[V]['run']
export type Parameters<V extends Verb> =
  Run<V> extends (parameters: infer P, context: VerbContext) => unknown ? P : never
export type Result<V extends Verb> = Awaited<ReturnType<Run<V>>>
/** What a verb gives one by one before its result. */
export type Item<V extends Verb> = (typeof verbs)[V] extends { items: readonly (infer I)[] }
  ? I
  : never
type Give<T> = (item: T) => Promise<void>

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
        throw new ParcelError('USAGE', parsed.error.issues.map(inWords).join('; '), parsed.error)
      }
      return run(parsed.data, context)
    }
  }
}

/** What is wrong with a parameter, by its name. */
function inWords(issue: z.core.$ZodIssue): string {
  const name = issue.path.join('.')
  if (issue.code === 'too_big' || issue.code === 'too_small') {
    const isBig = issue.code === 'too_big'
    const limit = isBig ? `at most ${issue.maximum}` : `at least ${issue.minimum}`
    if (issue.origin === 'string') return `${name} has ${limit} characters`
    return issue.origin === 'array' ? `${name} are ${limit}` : `${name} is ${limit}`
  }
  return `${name}: ${issue.message}`
}

/** A verb whose results are many: `run` gives them one by one, however many there are. */
function listing<P, I, R>(
  schema: z.ZodType<P>,
  run: (parameters: P, context: VerbContext, give: Give<I>) => Promise<R>
) {
  const items: readonly I[] = []
  return { ...verb(schema, (parameters, context) => run(parameters, context, context.give)), items }
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
