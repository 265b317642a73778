import { access, lstat, mkdir, readdir, realpath } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { ParcelError } from '../errors.js'
import { Host } from '../host.js'
import { readHome } from '../home.js'
import type { ParcelInfo, VaultInfo } from '../info.js'
import { readSealed, writeSealed } from '../keys/at-rest.js'
import { memberNamed } from '../names.js'
import { overlaps } from '../paths.js'
import { Task, type Work } from '../progress.js'

const FILE = 'vaults'
const MOST = 64
const schema = z.object({
  format: z.literal(1),
  vaults: z.array(z.object({ path: z.string(), id: z.string() })).max(MOST)
})
/** A disk that comes or goes is noticed after so long, ms. */
const LOOK = 2_000
const KEY_FILE = 'identity.key'

interface Vault {
  path: string
  /** Key of the host that it is, in hex: another at its place is not opened. '' until it was opened first. */
  id: string
  /** null: it is not there, or was closed. */
  host: Host | null
  /** Ends its connection with this host. */
  part: () => void
  /** Closed by its user: not opened again before the disk was away. */
  isReleased: boolean
  /** Why it cannot be opened. */
  problem: string | null
}

/**
 * Folders on disks that come and go, each the home of a vault: a host of its own, that any host
 * which has the disk runs beside itself. It keeps what members of its parcels give it and serves
 * it, also to other hosts over the network, and can read nothing of it.
 */
export class Vaults {
  readonly #host: Host
  readonly #bootstrap: string | undefined
  readonly #vaults = new Map<string, Vault>()
  /** A vault's folder that another one has taken the place of while it was open: see `Store.isDisplaced`. */
  displaced: string | null = null
  #looking: NodeJS.Timeout | undefined
  /** One change at a time. */
  #busy: Promise<unknown> = Promise.resolve()
  #isClosed = false

  private constructor(host: Host, bootstrap: string | undefined) {
    this.#host = host
    this.#bootstrap = bootstrap
  }

  /** Opens those that were named before and are there. */
  static async open(host: Host, bootstrap?: string): Promise<Vaults> {
    const vaults = new Vaults(host, bootstrap)
    const bytes = await readSealed(vaults.#file, host.home.identity.atRest).catch(() => null)
    const known = bytes === null ? null : schema.safeParse(JSON.parse(bytes.toString()))
    for (const each of known?.success === true ? known.data.vaults : []) {
      vaults.#note(each.path, each.id)
    }
    void vaults.#look()
    return vaults
  }

  /**
   * Makes a folder a vault of parcels of this host, or opens one that is there, and waits until it
   * has all that this host has of them. `names`: parcels that it is to keep; default those that it
   * does already, and for a new one all that this host owns. Throws USAGE, FORBIDDEN, CONFLICT,
   * STORE_IN_USE, DISK_FULL, INTERRUPTED: it goes on then, in the background.
   */
  add(
    wanted: string,
    options: { names?: string[]; quota?: number | null; wait?: boolean } = {}
  ): Task<VaultInfo> {
    return this.#add(wanted, { ...options, carriesTo: [] })
  }

  /** `carriesTo`: to which hosts, in hex, it carries what they lack of the parcels named. */
  #add(
    wanted: string,
    {
      names = [],
      quota,
      wait = true,
      carriesTo
    }: { names?: string[]; quota?: number | null; wait?: boolean; carriesTo: readonly string[] }
  ): Task<VaultInfo> {
    return new Task(async (work) => {
      const vault = await this.#alone(async () => {
        if (this.#isClosed)
          throw new ParcelError('INTERRUPTED', 'the daemon is ending: do it again')
        const path = await this.#prepare(wanted)
        const known = this.#vaults.get(path)
        if (known === undefined && this.#vaults.size >= MOST) {
          throw new ParcelError('USAGE', `a host has at most ${MOST} vaults: --forget one first`)
        }
        const isNew = !(await isHome(path))
        for (const name of names) await this.#requireOwned(name)
        const vault = known ?? this.#note(path, '')
        vault.isReleased = false
        try {
          await this.#start(vault, isNew, quota)
        } catch (error) {
          if (known === undefined) this.#vaults.delete(path)
          throw error
        }
        await this.#save()
        await this.#letIn(vault, { isNew, names, carriesTo })
        for (const name of names) {
          await openIn(vault).inProcess.carry((await this.#host.status(name)).id, carriesTo)
        }
        return vault
      })
      if (wait) await this.#fill(vault, work)
      return this.#describe(vault)
    })
  }

  /**
   * Fills a vault with what hosts, by their names, lack of a parcel, and waits until it is there; default all
   * other hosts that keep it. What they have is known from what they signed, when this host or the vault met
   * them last. Throws like `add`.
   */
  carry(
    path: string,
    name: string,
    { to = [], wait = true }: { to?: string[]; wait?: boolean } = {}
  ): Task<VaultInfo> {
    return new Task(async (work) => {
      const { members } = await this.#host.status(name)
      const others = members.filter(({ id, role }) => role !== 'vault' && id !== this.#host.id)
      const carriesTo =
        to.length === 0 ? others.map(({ id }) => id) : to.map((each) => memberNamed(others, each))
      if (carriesTo.length === 0) {
        throw new ParcelError(
          'USAGE',
          `no other host has "${name}": there is nobody to carry it to`
        )
      }
      await this.#add(path, { names: [name], wait: false, carriesTo })
      const vault = await this.#named(path)
      if (wait) await this.#fill(vault, work)
      return this.#describe(vault)
    })
  }

  /** Opens a vault that was filled elsewhere, and waits until this host has all of it that it wants. */
  take(path: string): Task<VaultInfo> {
    return new Task(async (work) => {
      if (!(await isHome(path))) {
        throw new ParcelError(
          'USAGE',
          `${path} is no vault: 'hyperparcel carry PATH NAME' makes one`
        )
      }
      await this.add(path, { wait: false })
      const vault = await this.#named(path)
      for (;;) {
        const host = openIn(vault)
        const { done, total } = this.#host.inProcess.takenFrom(host.inProcess)
        work.report({ step: 'taking over', done, total, unit: 'blocks' })
        if (done >= total) return this.#describe(vault)
        await new Promise((resolve) => setTimeout(resolve, 100))
        work.signal.throwIfAborted()
      }
    })
  }

  /** Closes a vault so that its disk can be taken away. Throws USAGE. */
  release(path: string): Promise<VaultInfo> {
    return this.#alone(async () => {
      const vault = await this.#named(path)
      vault.isReleased = true
      await this.#stop(vault)
      return this.#describe(vault)
    })
  }

  /**
   * Ends a vault: it is revoked in the parcels that this host owns, and not opened again. What is in
   * the folder stays. Throws USAGE.
   */
  forget(path: string): Promise<VaultInfo> {
    return this.#alone(async () => {
      const vault = await this.#named(path)
      const { id } = vault
      for (const { name, members, role } of await this.#host.list()) {
        const isVault = members.some((member) => member.id === id && member.role === 'vault')
        if (role !== 'owner' || !isVault) continue
        await this.#host.revoke(name, id)
      }
      await this.#stop(vault)
      this.#vaults.delete(vault.path)
      await this.#save()
      return this.#describe(vault)
    })
  }

  list(): Promise<VaultInfo[]> {
    return Promise.all([...this.#vaults.values()].map((vault) => this.#describe(vault)))
  }

  async close(): Promise<void> {
    this.#isClosed = true
    clearTimeout(this.#looking)
    await this.#alone(async () => {
      for (const vault of this.#vaults.values()) await this.#stop(vault)
    })
  }

  get #file(): string {
    return join(this.#host.home.dir, FILE)
  }

  #note(path: string, id: string): Vault {
    const vault = { path, id, host: null, part: () => {}, isReleased: false, problem: null }
    this.#vaults.set(path, vault)
    return vault
  }

  async #save(): Promise<void> {
    const vaults = [...this.#vaults.values()].map(({ path, id }) => ({ path, id }))
    const bytes = Buffer.from(JSON.stringify({ format: 1, vaults }))
    await writeSealed(this.#file, this.#host.home.identity.atRest, bytes)
  }

  /** Opens what has come, and lets go of what was pulled out. */
  async #look(): Promise<void> {
    await this.#alone(async () => {
      for (const vault of this.#vaults.values()) {
        if (this.#isClosed) return
        const isThere = await isHome(vault.path)
        if (!isThere) vault.isReleased = false
        if (isThere && (await vault.host?.isDisplaced()) === true) this.displaced = vault.path
        if (this.displaced !== null) return
        if (vault.host !== null && (!isThere || vault.host.isBroken)) await this.#stop(vault)
        if (vault.host !== null || !isThere || vault.isReleased) continue
        await this.#start(vault, false).catch((error: unknown) => {
          vault.problem = ParcelError.from(error).message
        })
      }
    }).catch(() => {})
    if (this.#isClosed) return
    this.#looking = setTimeout(() => void this.#look(), LOOK)
    this.#looking.unref()
  }

  async #start(vault: Vault, isNew: boolean, quota?: number | null): Promise<void> {
    if (vault.host !== null) {
      if (quota !== undefined) await vault.host.setQuota(quota)
      return
    }
    const options = {
      home: vault.path,
      isRemovable: true,
      ...(this.#bootstrap === undefined ? {} : { bootstrap: this.#bootstrap })
    }
    // Whoever had the disk can put another host there; what a key file says it is its secret has to show.
    const found = isNew ? '' : (await readHome(vault.path)).key.publicKey
    if (vault.id !== '' && found !== vault.id) {
      throw new ParcelError(
        'BAD_KEY',
        `${vault.path} is not the vault that was there: --forget it, then add it anew if you trust it`
      )
    }
    const name = `vault of ${this.#host.name}`
    vault.host = isNew ? await Host.create({ ...options, name }) : await Host.open(options)
    vault.id = vault.host.id
    // Before anybody gives it anything.
    if (quota !== undefined) await vault.host.setQuota(quota)
    vault.problem = null
    vault.part = await this.#host.inProcess.meet(vault.host.inProcess)
  }

  async #stop(vault: Vault): Promise<void> {
    const { host } = vault
    vault.host = null
    vault.part()
    // Of a disk that was pulled out nothing can be closed properly.
    await host?.close().catch((error: unknown) => {
      vault.problem = ParcelError.from(error).message
    })
  }

  /** The folder's real path: made if need be, empty or a home. */
  async #prepare(wanted: string): Promise<string> {
    await mkdir(wanted, { recursive: true, mode: 0o700 }).catch((error: unknown) => {
      if (
        error instanceof Error &&
        'code' in error &&
        ['EEXIST', 'ENOTDIR'].includes(String(error.code))
      )
        throw new ParcelError('FAILED', `${wanted} is not a folder: a vault needs one of its own`)
      throw ParcelError.from(error, `cannot make ${wanted}`)
    })
    const path = await realpath(wanted)
    if (!(await lstat(path)).isDirectory()) {
      throw new ParcelError('USAGE', `${path} is not a folder: a vault needs one of its own`)
    }
    if (overlaps(this.#host.home.dir, path)) {
      throw new ParcelError(
        'USAGE',
        `a vault cannot be in the home folder ${this.#host.home.dir}, or around it`
      )
    }
    for (const { name, path: folder } of await this.#host.list()) {
      if (folder !== null && overlaps(folder, path)) {
        throw new ParcelError('CONFLICT', `${path} belongs to the parcel "${name}"`)
      }
    }
    if (!(await isHome(path)) && (await readdir(path)).length > 0) {
      throw new ParcelError('CONFLICT', `${path} is not empty: give a folder of its own in it`)
    }
    return path
  }

  async #letIn(
    vault: Vault,
    {
      isNew,
      names,
      carriesTo
    }: { isNew: boolean; names: readonly string[]; carriesTo: readonly string[] }
  ): Promise<void> {
    const { host } = vault
    if (host === null) return
    const kept = await host.list()
    const all = await this.#host.list()
    const owned = all.filter(({ role }) => role === 'owner').map(({ name }) => name)
    for (const name of names.length > 0 ? names : isNew ? owned : []) {
      const id = all.find((each) => each.name === name)?.id
      if (!kept.some((each) => each.id === id)) {
        await this.#host.inProcess.letIn(name, host.inProcess, 'vault', carriesTo)
      }
    }
  }

  async #requireOwned(name: string): Promise<void> {
    if ((await this.#host.status(name)).role === 'owner') return
    throw new ParcelError('FORBIDDEN', `only an owner of "${name}" can let a vault in`)
  }

  /** Waits until it has what this host has of its parcels, as far as its quota goes. */
  async #fill(vault: Vault, work: Work): Promise<void> {
    const { host: before, path } = vault
    for (;;) {
      const host = openIn(vault)
      if (host !== before) {
        throw new ParcelError('INTERRUPTED', `${path} was closed before it had everything`)
      }
      const { done, total } = this.#host.inProcess.copiedTo(host.inProcess)
      work.report({ step: 'filling', done, total, unit: 'blocks' })
      // Nothing is shared with it, or it has all.
      if (done >= total) {
        // Its disk may be pulled out as soon as that is said.
        await host.flush()
        return
      }
      const { used, limit } = await host.room()
      if (limit !== null && used > limit - LEAST) {
        await host.flush()
        work.note(`it is full: ${done} of ${total} blocks are there; give it more with --quota`)
        return
      }
      await new Promise((resolve) => setTimeout(resolve, 100))
      work.signal.throwIfAborted()
    }
  }

  async #describe({ path, host, isReleased, problem }: Vault): Promise<VaultInfo> {
    const parcels = (await host?.list()) ?? []
    const { used, limit } = (await host?.room()) ?? { used: 0, limit: null }
    const { done, total } =
      host === null ? { done: 0, total: 0 } : this.#host.inProcess.copiedTo(host.inProcess)
    const ours = new Map((await this.#host.list()).map(({ id, name }) => [id, name]))
    const names = parcels.map(({ id, name }: ParcelInfo) => ours.get(id) ?? name)
    const state = host !== null ? 'open' : isReleased ? 'closed' : 'away'
    const carriesTo = host === null ? [] : this.#host.inProcess.namesOf(host.inProcess.carriesTo)
    const counts = { done, total, used, limit }
    return { path, id: host?.id ?? null, state, parcels: names, carriesTo, ...counts, problem }
  }

  async #named(wanted: string): Promise<Vault> {
    const path = await realpath(wanted).catch(() => wanted)
    const vault = this.#vaults.get(path)
    if (vault !== undefined) return vault
    throw new ParcelError('USAGE', `${path} is no vault of this host: see 'hyperparcel vault'`)
  }

  #alone<T>(work: () => Promise<T>): Promise<T> {
    const run = this.#busy.then(work)
    this.#busy = run.catch(() => {})
    return run
  }
}

/** With less room than this left a vault fetches nothing more, bytes. */
const LEAST = 4 * 1_048_576

/** Throws INTERRUPTED, FAILED. */
function openIn({ host, path }: Vault): Host {
  if (host === null)
    throw new ParcelError(
      'INTERRUPTED',
      `${path} was closed, or pulled out: it goes on when it is there again`
    )
  if (!host.isBroken) return host
  throw new ParcelError('FAILED', `${path} cannot be written to: was its disk pulled out?`)
}

function isHome(path: string): Promise<boolean> {
  return access(join(path, KEY_FILE)).then(
    () => true,
    () => false
  )
}
