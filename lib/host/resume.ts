import { resolve } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { describeVersion } from './describe.js'
import type { Policy } from '../choices.js'
import { ParcelError } from '../errors.js'
import type { Home } from '../home.js'
import type { ResumeOptions, ResumeResult } from '../info.js'
import { isName } from '../names.js'
import type { Served } from '../parcel/checkout/check-out.js'
import { requireHead } from '../parcel/head.js'
import type { Known } from '../parcel/history.js'
import type { Force } from '../parcel/members/lease-keeper.js'
import type { Outside } from '../parcel/fetch/outside.js'
import type { Parcel } from '../parcel/parcel.js'
import { ParcelMachine } from './parcel-machine.js'
import { namesIn, overlaps, realDestination } from '../paths.js'
import type { Work } from '../progress.js'
import type { Swarm } from '../swarm/swarm.js'
import type { Driver, Role } from '../vmm/driver.js'
import { driverNamed } from '../vmm/drivers.js'
import { noFuse, noNamespace } from '../vmm/namespace.js'
import { CONSOLE_LOG, requireFit } from '../vmm/state-files.js'

/** What a host lends to a resume. */
export interface ResumeContext {
  home: Home
  swarm: Swarm
  /** All parcels of the host: none is written into another's folder. */
  parcels: readonly Parcel[]
  outside: Outside
}

const TIMEOUT = 60_000
const DAY = 86_400_000
/** ms */
const PREFETCH_LIMIT = 600_000
/** A monitor takes so long to load a machine, ms: meanwhile the rest comes. */
const LOAD_TIME = 1_200
/** How long a resume listens for newer versions when nobody answers, and after the first did. */
const HEAR = { timeout: 5_000, grace: 1_000 }

/**
 * Brings a version back: asks the other hosts, chooses, checks that it fits here, fetches what is
 * missing (all of it, or what the start needs), writes the folder, starts the machine. Throws RUNNING, CONFLICT, UNREACHABLE,
 * UNKNOWN_VERSION, HOST_MISMATCH, NEWER_FORMAT, INTEGRITY, DISK_FULL, VMM_FAILED.
 */
export async function resume(
  parcel: Parcel,
  options: ResumeOptions,
  { home, swarm, parcels, outside }: ResumeContext,
  work: Work
): Promise<ResumeResult> {
  const driver = driverNamed(parcel.driver)
  const machine = new ParcelMachine(home, parcel)
  await machine.requireStopped()
  const { timeout = TIMEOUT, cwd = '.', start = true, prefetch = true, offline = false } = options
  const { policy, roles } = await policyFor(driver, { ...options, start }, work)
  const { lookaside = [] } = options
  if (lookaside.length > 0 || outside.paths.length > 0) {
    await outside.look(
      lookaside.map((path) => resolve(cwd, path)),
      work
    )
  }
  const isRunning = driver.statePaths.length > 0 && start
  work.report({ step: 'asking', done: 0, total: 0, unit: 'blocks' })
  // From the first block on: what is wanted for the start goes before all that is not; unless
  // memory is, and most of what comes is wanted.
  const isLazy = !prefetch || roles.length === driver.imageRoles.length
  const stopHolding = policy === 'demand' && isLazy ? parcel.lending.hold() : () => {}
  let release = (): void => {}
  if (isRunning) machine.prepare({ isServed: roles.includes('memory') })
  try {
    const heard = offline ? new Set<string>() : await hear(parcel, { swarm, timeout }, work)
    const force = options.force === true ? 'absent' : 'never'
    await takeLease(parcel, { timeout: offline ? 0 : timeout, force }, work)
    const wanted = await chooseVersion(parcel, options.version, offline ? 0 : timeout, work)
    release = await parcel.space.hold(wanted)
    if (offline) await parcel.availability.requireHere(wanted)
    noteRunning(parcel, work)
    await requireFit(driver, wanted.version.facts)
    const name = isName(parcel.name) ? parcel.name : 'parcel'
    const before = parcel.folder.path
    const path = await realDestination(resolve(cwd, options.to ?? before ?? name))
    const { signal } = work
    const mayWrite = (at = path): Promise<void> => {
      // It may have arrived meanwhile that there is one.
      parcel.leases.requireHere()
      return requireWritable(parcel, path, {
        at,
        home,
        parcels,
        force: options.force === true,
        signal
      })
    }
    await mayWrite()
    // Once more at the end: the user may have gone on working in the folder meanwhile.
    const how = {
      served: policy === 'baseline' ? null : servedOf(roles, wanted),
      beforeSwap: () => mayWrite(),
      // And once more, where nobody writes any more.
      afterSwap: mayWrite
    }
    if (policy === 'demand') {
      // Goes on when the machine runs: what it has not come to yet, it will.
      const ahead = prefetch
        ? parcel.lending.prefetch(wanted, AbortSignal.timeout(PREFETCH_LIMIT))
        : null
      await parcel.availability.watch(wanted, { timeout }, work, (each) =>
        parcel.files.checkOut(wanted, path, how, each)
      )
      // A guest that waits for page after page of what is on its way is slower, and its clock goes on.
      await ahead?.firstWithin(LOAD_TIME, work)
    } else {
      await parcel.availability.fetch(wanted, { timeout }, work)
      await parcel.files.checkOut(wanted, path, how, work)
    }
    if (before !== null && (await realDestination(before)) !== path) {
      work.note(
        `${parcel.name} is in ${path} from now on: what is done in ${before} is no part of it any more`
      )
    }
    const screen = isRunning ? (await machine.run({ prefetch })).screen : null
    const others = [...parcel.peers.trusted()]
    const names = (hosts: string[]): string[] => hosts.map((host) => parcel.hostName(host))
    return {
      version: await describeVersion(parcel, wanted, home),
      policy,
      blocks: parcel.availability.blocksOf(wanted),
      path,
      isRunning,
      screen,
      heard: names(others.filter((host) => heard.has(host))),
      silent: names(others.filter((host) => !heard.has(host))),
      lastSeen: Object.fromEntries(
        others.flatMap((host) => {
          const seen = parcel.peers.lastSeen(host)
          return heard.has(host) || seen === null ? [] : [[parcel.hostName(host), seen]]
        })
      )
    }
  } finally {
    machine.process.unprepare()
    release()
    stopHolding()
  }
}

/** Asks the other hosts for newer versions, as strictly as the user wants it; who was heard, in hex. */
async function hear(
  parcel: Parcel,
  { swarm, timeout }: { swarm: Swarm; timeout: number },
  { signal }: Work
): Promise<Set<string>> {
  const { consistency, days } = parcel.settings.strictness
  if (consistency !== 'latest') return swarm.hear(parcel, { ...HEAR, signal })
  const since = Date.now() - days * DAY
  const until = new Set(
    [...parcel.peers.trusted()].filter((host) => (parcel.peers.lastSeen(host) ?? 0) >= since)
  )
  return swarm.hear(parcel, { ...HEAR, timeout, until, signal })
}

/**
 * Gets the lease that whoever runs it needs, if there is one, and waits for the version that it goes on
 * from. Throws LEASE_HELD, UNREACHABLE.
 */
export async function takeLease(
  parcel: Parcel,
  { timeout, force = 'never' }: { timeout: number; force?: Force },
  work: Work
): Promise<void> {
  const { leases } = parcel
  const deadline = performance.now() + timeout
  const until = async (isReady: () => boolean, what: string): Promise<void> => {
    while (!isReady()) {
      if (performance.now() > deadline) throw new ParcelError('UNREACHABLE', what)
      await setTimeout(25, undefined, { signal: work.signal })
    }
  }
  // Whether there is one, who has just come does not know.
  if (parcel.isLost && timeout > 0) {
    await until(() => !parcel.isLost, 'who else may run it has not arrived yet: do it again').catch(
      () => {}
    )
  }
  const before = leases.lease
  if (before === null) return
  const wasHere = leases.isHere
  await leases.take({ timeout, force }, work)
  const { lease } = leases
  if (lease === null) return
  if (!wasHere && lease.origin !== 'handed over' && before.holder !== null) {
    work.note(
      `the lease was ${parcel.hostName(before.holder)}'s, which was not asked: what it has made and ` +
        'nobody has seen is a second head'
    )
  }
  const isKnown = (): boolean => lease.heads.every((id) => parcel.knows(id))
  await until(
    isKnown,
    'the version that the lease goes on from has not arrived: bring a host online that has it'
  )
}

/** Says where its machine runs: who goes on here makes a second head. */
function noteRunning(parcel: Parcel, work: Work): void {
  for (const host of parcel.peers.trusted()) {
    const since = parcel.runningSince(host)
    if (since === null) continue
    work.note(
      `it runs on ${parcel.hostName(host)} since ${new Date(since).toISOString()}: what is done there ` +
        'makes a second head'
    )
  }
}

/** What can be done here of what is wanted, and which files need not be here for it. */
async function policyFor(
  driver: Driver,
  { policy = 'demand', start }: ResumeOptions,
  work: Work
): Promise<{ policy: Policy; roles: readonly Role[] }> {
  const baseline = { policy: 'baseline', roles: [] } as const
  if (policy === 'baseline' || driver.imageRoles.length === 0) return baseline
  // Files alone are for whoever opens them: `mount` serves what is not here.
  if (start === false) return baseline
  const obstacle = driver.needsServer ? (noFuse() ?? (await noNamespace())) : null
  if (obstacle === null) return { policy, roles: driver.imageRoles }
  work.note(
    `its memory is fetched before the machine starts, only its disk as it is wanted: ${obstacle}`
  )
  return { policy, roles: driver.imageRoles.filter((role) => role !== 'memory') }
}

/** Disks, and memory where the monitor can map it, are served; all else is written. */
function servedOf(roles: readonly Role[], { id }: Known): Served {
  const files: string[] = []
  return {
    isServed(entry) {
      const isServed = entry.type === 'file' && roles.includes(entry.role)
      const path = entry.path.toString()
      if (isServed && !files.includes(path)) files.push(path)
      return isServed
    },
    mark: (dir) => ParcelMachine.mark(dir, id.toString('hex'), files)
  }
}

/** The version to resume or to open. Throws CONFLICT for several heads, UNREACHABLE when none has arrived. */
export async function chooseVersion(
  parcel: Parcel,
  version: string | undefined,
  timeout: number,
  work: Work
): Promise<Known> {
  await waitForVersion(parcel, timeout, work.signal)
  if (version !== undefined) {
    return parcel.history.resolve(version)
  }
  // To take an older version in its place would fork the history without a word.
  if (parcel.newerFormat !== null) throw parcel.newerFormat
  return requireHead(parcel)
}

/** Waits for a first version, if there are other hosts that may have one. */
async function waitForVersion(parcel: Parcel, timeout: number, signal: AbortSignal): Promise<void> {
  const deadline = performance.now() + timeout
  while (
    parcel.history.size === 0 &&
    parcel.newerFormat === null &&
    parcel.peers.trusted().size > 0
  ) {
    if (performance.now() > deadline) {
      throw new ParcelError(
        'UNREACHABLE',
        `no version of "${parcel.name}" has arrived: is another of its hosts online?`
      )
    }
    await setTimeout(25, undefined, { signal })
  }
}

/** Refuses to overwrite a folder that is not this parcel's, or that has what no version has. `at`: where it is now. */
async function requireWritable(
  parcel: Parcel,
  path: string,
  {
    at,
    home,
    parcels,
    force,
    signal
  }: { at: string; home: Home; parcels: readonly Parcel[]; force: boolean; signal: AbortSignal }
): Promise<void> {
  if (overlaps(home.dir, path)) {
    throw new ParcelError('USAGE', `cannot resume into the home folder ${home.dir}`)
  }
  for (const other of parcels) {
    if (other === parcel || other.folder.path === null) continue
    if (overlaps(await realDestination(other.folder.path), path)) {
      throw new ParcelError('CONFLICT', `${path} belongs to the parcel "${other.name}"`)
    }
  }
  if ((await namesIn(at)).length === 0) return
  if (parcel.folder.path === null || (await realDestination(parcel.folder.path)) !== path) {
    throw new ParcelError('CONFLICT', `${path} is not empty: choose another folder`)
  }
  if (!force) await requireSuspended(parcel, at, signal)
}

/** Throws CONFLICT when a parcel's folder has what no version has. */
export async function requireSuspended(
  parcel: Parcel,
  path: string,
  signal: AbortSignal
): Promise<void> {
  const driver = driverNamed(parcel.driver)
  const served = await ParcelMachine.served(parcel, path)
  if (served.isDirty) {
    throw new ParcelError(
      'CONFLICT',
      `the machine in ${path} ended without a suspend: 'hyperparcel run ${parcel.name} --cold' boots ` +
        'it from its disk as it is, --force loses what it did since its version'
    )
  }
  await parcel.files.requireNoChanges(parcel.folder.baseVersion(), path, {
    served: served.files,
    isState: (file) => isStateOf(driver, file),
    signal
  })
}

/** Whether a path of a folder is of its machine's state, which comes and goes with it. */
export function isStateOf(driver: Driver, file: string): boolean {
  if (driver.statePaths.length === 0) return false
  return file === 'state' || file.startsWith('state/') || file.startsWith(CONSOLE_LOG)
}
