import type { Scan } from '../../choices.js'
import { nullIfElsewhere, ParcelError } from '../../errors.js'
import type { FileEntry, FileRole } from '../../format/file-table.js'
import { CHUNKING } from '../../format/limits.js'
import type { Places, Trace } from '../../format/meta-record.js'
import { leftOutOf, versionExtensions, type CoreHead, type Version } from '../../format/version.js'
import { contents } from '../../image/contents.js'
import type { Identity } from '../../keys/identity.js'
import type { ItemSource } from '../../image/items.js'
import { openContents } from '../../image/open-tree.js'
import { CORE_PREFIX } from '../../log/chunk-index.js'
import { CoreTable } from '../../log/core-table.js'
import type { Log } from '../../log/log.js'
import { PackWriter } from '../../log/pack-writer.js'
import type { Work } from '../../progress.js'
import { provenBase } from './base-files.js'
import { commitFolder } from './commit.js'
import type { Images } from './store-image.js'
import type { ParcelContext } from '../context.js'
import { FaultSource, type Faults } from '../fetch/faults.js'
import type { FileStamps } from './file-stamps.js'
import { branchName, type Known, type Placement } from '../history.js'
import type { LogSet } from '../logs/log-set.js'
import type { DirtyMap } from './scan.js'
import { blockName, shareOf, traceOf, usedOf, type Used } from './trace.js'
import { packsOf } from '../version-packs.js'
import type { Skipped } from './walk.js'

/** Packs of what a resume wants first are made anew when less of them than this was wanted. */
const GOOD = 0.8

export interface CommitRequest {
  /** The folder; null when all of the version is in images. */
  path: string | null
  /** What is not in the folder, but in images of a version, whose overlays are in another. */
  images?: {
    version: Buffer
    overlays: string
    isImage: (entry: FileEntry) => boolean
    /** What the machine used since it was resumed; null: as it was said of that version. */
    used: Used | null
    /** Default true: what a resume wants first is packed together, if it is not. */
    isPacking?: boolean
  }
  roles: Readonly<Record<string, FileRole>>
  exclude: (path: string) => boolean
  facts: Record<string, string>
  message: string
  compress: boolean
  /** Default `mtime`. With `full` the dirty map does not count either. */
  scan?: Scan
  dirty?: DirtyMap
  /** What is on other hosts is not waited for: UNREACHABLE. */
  offline?: boolean
  /** Bytes of it that `Author.storeAhead` has stored. */
  ahead?: number
}

/** A version that no record names yet. */
export interface NewVersion {
  version: Version
  places: Omit<Places, 'version'>
  /** What is in the folder but not in the version. */
  skipped: Skipped[]
  /** By which unchanged files are known again. */
  stamps: FileStamps
  /** What a resume of it will want first; null when nobody knows. */
  trace: Omit<Trace, 'version'> | null
  /** Blocks that had to come from other hosts for it. */
  fetched: number
}

export interface NewVersionOptions {
  parcel: Buffer
  driver: string
  /** The version that the folder continues. */
  base: Buffer | null
  set: LogSet
  /** This host's own `data` log. */
  data: Log
  context: ParcelContext
  /** 0: without a lease. */
  leaseEpoch: number
  /** Waits for what is not on this host. */
  faults: Faults
  /** Called when it fails with packs in the log from block `from` on, and maybe more until `ended` settles. */
  onFailure: (error: ParcelError, from: number, ended: Promise<void>) => Promise<void>
  work: Work
}

/** What a new version is written with: where its parts may be, and what they are looked up in. */
interface Writing {
  /** The version that it continues, if that is of any help. */
  parent: Known | null
  imagesPlacement: Placement | null
  /** By the beginning of their keys. */
  heads: Map<string, CoreHead>
  cores: CoreTable
  writer: PackWriter
}

/** A writer into this host's log for what a version is to name. */
export function openWriter(
  request: CommitRequest,
  options: Pick<NewVersionOptions, 'base' | 'set' | 'data' | 'parcel' | 'context'>
): Writing {
  const { base, set, data, parcel, context } = options
  const { index, pool, identity, store } = context
  // A parent need not be known here, nor be where its author says; it only helps to store less.
  const known = base !== null && set.history.isPlaced(base) ? set.history.get(base) : null
  const imagesId = request.images?.version ?? null
  const of = imagesId === null ? null : set.history.get(imagesId)
  const { parentPlacement, imagesPlacement } = placementsOf(known, of, set, identity)
  const parent = parentPlacement === null ? null : known
  const heads = new Map<string, CoreHead>()
  const table = parentPlacement ?? imagesPlacement
  for (const head of table?.heads ?? []) heads.set(prefix(head.key), head)
  const cores = new CoreTable(table?.places.cores ?? [])
  const logs = new Map(set.logs().map((log) => [prefix(log.key), log]))
  const writer = new PackWriter({
    log: data,
    pool,
    parcel,
    index,
    cores,
    mayRefer: (core, block) => {
      const log = logs.get(prefix(core))
      const length = log === data ? data.length : (heads.get(prefix(core))?.length ?? 0)
      return log !== undefined && block < length && !log.isDropped(block)
    },
    compress: request.compress,
    flush: () => store.flush(),
    requireRoom: (bytes) => store.requireRoom(bytes)
  })
  return { parent, imagesPlacement, heads, cores, writer }
}

/** Puts a folder's contents into the log; nothing refers to them yet. */
export async function storeVersion(
  request: CommitRequest,
  options: NewVersionOptions
): Promise<NewVersion> {
  const { parcel, driver, base, set, data, context, faults, leaseEpoch, onFailure, work } = options
  const { pool, identity, clock } = context
  const { parent, imagesPlacement, heads, cores, writer } = openWriter(request, options)
  const from = data.length
  const { roles, exclude, scan = 'mtime', dirty = {} } = request
  const files = async () =>
    parent === null ? null : ((await provenBase(parent, set, context))?.files() ?? null)
  const images = imagesOf(request, imagesPlacement, { set, faults, work })
  const how = { writer, pool, roles, exclude, base: files, scan, dirty, images, work }
  const stored = await commitFolder(request.path, how).catch(async (error: unknown) => {
    await onFailure(ParcelError.from(error), from, writer.end()).catch(() => {})
    throw error
  })
  heads.set(prefix(data.key), await data.head())
  // Only taken over meanwhile: it is still what the folder was.
  const parentId = base === null ? null : set.history.continued(base)
  const continued = parentId === null ? null : set.history.get(parentId)
  // What a mounted version lacks, it lacks still.
  const mounted = request.path === null ? (request.images?.version ?? null) : null
  const before = mounted === null ? null : set.history.get(mounted)
  const leftOutBefore = before === null ? 0 : leftOutOf(before.version)
  const version: Version = {
    chunking: CHUNKING,
    parcel,
    author: identity.publicKey,
    parents: parentId === null ? [] : [parentId],
    created: clock(),
    driver,
    facts: request.facts,
    table: { size: stored.table.size, root: stored.table.root },
    totals: {
      files: stored.files,
      bytes: stored.bytes,
      stored: writer.stored + (request.ahead ?? 0)
    },
    message: request.message,
    leaseEpoch,
    cores: cores.keys.flatMap((key) => heads.get(prefix(key)) ?? []),
    extensions: versionExtensions(
      continued === null ? '' : branchName(continued.version),
      stored.skipped.length + leftOutBefore
    )
  }
  const places = { cores: [...cores.keys], table: stored.table.place, roots: stored.roots }
  const { skipped, stamps } = stored
  const trace =
    images === null || !images.isPacking
      ? null
      : await traceFor({ version, places, images, working: writer.working, data, set, request })
  return { version, places, skipped, stamps, trace, fetched: images?.anywhere.fetched ?? 0 }
}

/** What a resume of a version will want first; null when that cannot be told from what is here. */
export async function traceFor({
  version,
  places,
  images,
  working = [],
  data,
  set,
  request
}: {
  version: Version
  places: Omit<Places, 'version'>
  images: Images
  /** Blocks of this host's log in which that was packed. */
  working?: readonly number[]
  data: Log
  set: LogSet
  request: CommitRequest
}): Promise<Omit<Trace, 'version'> | null> {
  const cores = new CoreTable(places.cores)
  const packed = new Set(images.packed)
  const core = places.cores.findIndex((key) => key.equals(data.key))
  for (const block of working) packed.add(blockName({ core, block }))
  return traceOf({
    version,
    places: { ...places, version: Buffer.alloc(0) },
    source: packsOf(cores, set),
    used: images.used,
    packed,
    async sizeOf({ core, block }) {
      const log = set.get(cores.key(core))
      return log?.has(block) === true ? (await log.read(block)).byteLength : 0
    },
    isNeeded: ({ entry }) =>
      entry.type === 'file' &&
      entry.role !== 'memory' &&
      entry.role !== 'disk' &&
      request.images?.isImage(entry) !== true
  }).catch(nullIfElsewhere)
}

/** `images` of a request, open. */
export function imagesOf(
  { images, offline = false }: CommitRequest,
  placement: Placement | null,
  { set, faults, work: { signal } }: { set: LogSet; faults: Faults; work: Work }
): (Images & { anywhere: ItemSource & { readonly fetched: number } }) | null {
  if (images === undefined) return null
  const of = set.history.get(images.version)
  if (of === null) throw new ParcelError('UNREACHABLE', 'the version of the images is not here')
  const places = placement?.places ?? set.history.places(of.id)
  const here = packsOf(new CoreTable(places.cores), set)
  const anywhere = offline
    ? { read: here.read.bind(here), fetched: 0 }
    : new FaultSource(places, faults, signal)
  const before = set.history.trace(of.id)
  const used = images.used ?? usedOf(before)
  const isGood = shareOf(usedOf(before), used) >= GOOD
  const packed = new Set(
    (before?.blocks ?? []).flatMap((at) => (at.isPacked && isGood ? [blockName(at)] : []))
  )
  return {
    used,
    isPacking: images.isPacking ?? true,
    packed,
    isPacked: (place) => packed.has(blockName(place)),
    here,
    anywhere,
    async *contents() {
      const all = contents(anywhere, of.version, places)
      for await (const content of openContents(all, images.overlays)) {
        if (images.isImage(content.entry)) yield content
      }
    }
  }
}

/**
 * Where the version that is continued is, and where that of the images is, which stay open over
 * checkpoints: numbers of cores mean the same in both, whatever was moved meanwhile. null: what is
 * continued is no help, for it lacks something or does not fit.
 */
function placementsOf(
  known: Known | null,
  of: Known | null,
  set: LogSet,
  identity: Identity
): { parentPlacement: Placement | null; imagesPlacement: Placement | null } {
  const { history } = set
  const best = (all: readonly Placement[]): Placement | null => history.best(all)
  const ofImages = of === null ? [] : history.placements(of.id)
  const sound = (known === null ? [] : history.placements(known.id)).filter(({ heads }) =>
    isSound(heads, set, identity)
  )
  if (of === null) return { parentPlacement: best(sound), imagesPlacement: null }
  const fitting = (parent: Placement): Placement[] =>
    ofImages.filter(({ places }) =>
      places.cores.every((key, n) => parent.places.cores[n]?.equals(key) === true)
    )
  const parentPlacement = best(sound.filter((parent) => fitting(parent).length > 0))
  const imagesPlacement = best(parentPlacement === null ? ofImages : fitting(parentPlacement))
  return { parentPlacement, imagesPlacement }
}

/** Whether nothing is lost of what this host itself has written of a version. */
function isSound(cores: readonly CoreHead[], set: LogSet, { publicKey }: Identity): boolean {
  const self = publicKey.toString('hex')
  return cores.every(({ key, length }) => {
    const log = set.get(key)
    return log === null || set.writerOf(key) !== self || log.missing(0, length, 1).length === 0
  })
}

function prefix(key: Buffer): string {
  return key.toString('hex', 0, CORE_PREFIX)
}
