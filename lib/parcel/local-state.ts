import { readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { CONSISTENCIES, isHoardedVersions, type HoardedVersions } from '../choices.js'
import { ParcelError } from '../errors.js'
import type { SignedRecord } from '../format/wire.js'
import { readSealed, makeDurable, writeSealed } from '../keys/at-rest.js'
import type { EpochKeys } from '../format/epoch-keys.js'

export const MAX_COPIES = 64
const MAX_ROLLBACKS = 16

const hex = (bytes: number) =>
  z
    .string()
    .regex(/^[0-9a-f]*$/)
    .length(bytes * 2)

const count = z.number().int().min(0).max(1_000_000)
const retention = z.strictObject({
  last: count,
  daily: count,
  weekly: count,
  tags: z.array(z.string().max(256)).max(64)
})

/** How many of the newest versions are kept, of how many days and weeks the last one, and which tags (globs). */
export type Retention = z.infer<typeof retention>

const hoard = z.strictObject({
  versions: z.custom<HoardedVersions>(
    (text) => typeof text === 'string' && isHoardedVersions(text)
  ),
  files: z.array(z.string().min(1).max(4_096)).max(64)
})

const schema = z.strictObject({
  format: z.literal(1),
  parcel: hex(32),
  name: z.string().min(1).max(255),
  driver: z.string().max(32),
  /** The folder whose state the next suspend stores; null when this host has none. */
  path: z.string().nullable(),
  epochs: z.array(
    z.strictObject({
      epoch: z.number().int().min(0),
      /** Id of the record that began it; null for the first. */
      record: hex(32).nullable().default(null),
      epochKey: hex(32).nullable(),
      controlKey: hex(32)
    })
  ),
  /** Seeds of the core key pairs that this host writes with. A retired one is never appended to again. */
  incarnation: z
    .strictObject({ id: hex(16), control: hex(32), meta: hex(32), data: hex(32) })
    .nullable(),
  /** The version that the working folder continues. */
  base: hex(32).nullable(),
  /** The machine has run since `base` was made. */
  isStarted: z.boolean().default(false),
  /** A version being made or written out: should we die in the middle, the next start settles it. */
  pending: z
    .strictObject({ kind: z.enum(['commit', 'checkout']), version: hex(32), path: z.string() })
    .nullable()
    .default(null),
  /** When, in ms since 1970, and why this host went on in new logs, until the user has seen it. */
  rollbacks: z
    .array(z.strictObject({ at: z.number(), why: z.string().max(1_024) }))
    .max(MAX_ROLLBACKS)
    .default([]),
  consistency: z.enum(CONSISTENCIES).default('available'),
  /** Hosts that were heard in so many days are waited for. */
  days: z.number().int().min(1).max(3_650).default(7),
  /** When other hosts were heard last, by key in hex, ms since 1970. */
  seen: z.record(hex(32), z.number()).default({}),
  /** How many other hosts are to have a version before this one can be without. */
  copies: z.number().int().min(0).max(MAX_COPIES).default(1),
  /** Whoever let this host in; null in a parcel of its own. */
  inviter: hex(32).nullable().default(null),
  /** Versions that this host need not have, by id. */
  forgotten: z.array(hex(32)).default([]),
  /** `data` cores that this host is without: they are not fetched. */
  letGo: z.array(hex(32)).default([]),
  /** Seed of the `data` core into which a prune copies what is needed; null when none is under way. */
  moving: hex(32).nullable().default(null),
  /** Logs were taken off the disk whose space has not been given back. */
  isUnreclaimed: z.boolean().default(false),
  /** Which versions are kept without being asked each time; null: all. */
  retention: retention.nullable().default(null),
  /** Of its machine while that runs here a version is made so often, ms; null: only when somebody says so. */
  checkpointEvery: z.number().int().min(1).nullable().default(null),
  /** So is one when it has done little for so long, ms. */
  checkpointIdle: z.number().int().min(1).nullable().default(null),
  hoard: hoard.default({ versions: 'all', files: [] }),
  /** A vault on its way: it is without what all of these hosts, by key in hex, have. Empty: it keeps all. */
  carriesTo: z.array(hex(32)).max(64).default([]),
  /** Lengths of own cores that were once durable: a store that is behind them was rolled back. */
  marks: z.array(
    z.strictObject({ core: hex(32), length: z.number().int().min(0), treeHash: hex(32) })
  ),
  /** Signed `cores` records, so that logs are found before any control log is read. */
  announcements: z.array(z.strictObject({ bytes: z.string(), signature: hex(64) }))
})

/** What this host alone knows of a parcel: keys, seeds, where its folder is. Sealed at rest. */
export type LocalState = z.infer<typeof schema>

export function newState(
  id: Buffer,
  fields: Pick<LocalState, 'name' | 'driver' | 'path'>,
  keys: EpochKeys
): LocalState {
  return {
    format: 1,
    parcel: id.toString('hex'),
    ...fields,
    epochs: [epochText(keys)],
    incarnation: null,
    base: null,
    isStarted: false,
    pending: null,
    rollbacks: [],
    consistency: 'available',
    days: 7,
    seen: {},
    copies: 1,
    inviter: null,
    forgotten: [],
    letGo: [],
    moving: null,
    isUnreclaimed: false,
    retention: null,
    checkpointEvery: null,
    checkpointIdle: null,
    hoard: { versions: 'all', files: [] },
    carriesTo: [],
    marks: [],
    announcements: []
  }
}

/** Keeps that this host goes on in new logs: it may have lost something. */
export function noteRollback({ rollbacks }: LocalState, at: number, why: string): void {
  rollbacks.push({ at, why })
  if (rollbacks.length > MAX_ROLLBACKS) rollbacks.shift()
}

export function epochKeysOf({ epochs }: LocalState): EpochKeys[] {
  return epochs.map(({ epoch, record, epochKey, controlKey }) => ({
    epoch,
    record: record === null ? null : Buffer.from(record, 'hex'),
    epochKey: epochKey === null ? null : Buffer.from(epochKey, 'hex'),
    controlKey: Buffer.from(controlKey, 'hex')
  }))
}

export function epochText(keys: EpochKeys): LocalState['epochs'][number] {
  const { epoch, record, epochKey, controlKey } = keys
  return {
    epoch,
    record: record?.toString('hex') ?? null,
    epochKey: epochKey?.toString('hex') ?? null,
    controlKey: controlKey.toString('hex')
  }
}

export function announcementsOf({ announcements }: LocalState): SignedRecord[] {
  return announcements.map(({ bytes, signature }) => ({
    bytes: Buffer.from(bytes, 'base64'),
    signature: Buffer.from(signature, 'hex')
  }))
}

export function announcementText({
  bytes,
  signature
}: SignedRecord): LocalState['announcements'][number] {
  return { bytes: bytes.toString('base64'), signature: signature.toString('hex') }
}

const SUFFIX = '.parcel'

export async function saveState(dir: string, key: Buffer, state: LocalState): Promise<void> {
  // What could not be read back must not replace what can.
  schema.parse(state)
  await writeSealed(join(dir, state.parcel + SUFFIX), key, Buffer.from(JSON.stringify(state)))
}

/** Removes a parcel's state, and what is kept beside it. */
export async function removeState(dir: string, parcel: Buffer): Promise<void> {
  const name = parcel.toString('hex')
  for (const file of await readdir(dir)) {
    if (file.startsWith(name)) await rm(join(dir, file), { force: true })
  }
  await makeDurable(dir)
}

export interface LoadedStates {
  states: LocalState[]
  /** Files that do not open, and why: one bad parcel must not hide the others. */
  failures: { path: string; error: ParcelError }[]
}

/** Reads every state in a folder. Failures are BAD_KEY (another host's, or damaged), NEWER_FORMAT, INTEGRITY. */
export async function readStates(dir: string, key: Buffer): Promise<LoadedStates> {
  const loaded: LoadedStates = { states: [], failures: [] }
  for (const name of (await readdir(dir)).toSorted()) {
    if (!name.endsWith(SUFFIX)) continue
    const path = join(dir, name)
    try {
      loaded.states.push(await loadState(path, key))
    } catch (error) {
      loaded.failures.push({ path, error: ParcelError.from(error) })
    }
  }
  return loaded
}

/** Like `readStates`, but throws the first failure. */
export async function loadStates(dir: string, key: Buffer): Promise<LocalState[]> {
  const { states, failures } = await readStates(dir, key)
  if (failures[0] !== undefined) throw failures[0].error
  return states
}

async function loadState(path: string, key: Buffer): Promise<LocalState> {
  const value: unknown = JSON.parse((await readSealed(path, key)).toString())
  const parsed = schema.safeParse(value)
  if (parsed.success) return parsed.data
  const format = z.object({ format: z.number() }).safeParse(value)
  if (format.success && format.data.format > 1) {
    throw new ParcelError('NEWER_FORMAT', `${path} was written by a newer hyperparcel: update it`)
  }
  throw new ParcelError('INTEGRITY', `${path} does not hold what it should`, parsed.error)
}
