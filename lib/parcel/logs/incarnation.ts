import { encodeCoreHeader, type CoreKind } from '../../format/core-header.js'
import type { Extension } from '../../format/extension.js'
import type { ControlBody, Incarnation as CoreKeys } from '../../format/control-record.js'
import { encodeMetaRecord } from '../../format/meta-record.js'
import { MAX_PARENTS } from '../../format/limits.js'
import type { SignedRecord } from '../../format/wire.js'
import { keyPairFrom, randomBytes } from '../../keys/identity.js'
import type { Keyring } from '../../keys/keyring.js'
import type { Log } from '../../log/log.js'
import type { ParcelContext } from '../context.js'
import { encodeSigned, signControl, type Control } from '../members/control.js'
import type { LocalState } from '../local-state.js'

type Seeds = NonNullable<LocalState['incarnation']>

/** The three logs that this host writes now, under key pairs that no log has used before. */
export class Incarnation {
  readonly control: Log
  readonly meta: Log
  readonly data: Log
  readonly seeds: Seeds

  private constructor(seeds: Seeds, logs: Record<CoreKind, Log>) {
    this.seeds = seeds
    this.control = logs.control
    this.meta = logs.meta
    this.data = logs.data
  }

  get logs(): Log[] {
    return [this.control, this.meta, this.data]
  }

  static async open(context: ParcelContext, keyring: Keyring, seeds: Seeds): Promise<Incarnation> {
    const open = (kind: CoreKind): Promise<Log> =>
      context.store.own(kind, keyPairFrom(Buffer.from(seeds[kind], 'hex')), keyring)
    return new Incarnation(seeds, {
      control: await open('control'),
      meta: await open('meta'),
      data: await open('data')
    })
  }

  /**
   * Makes new logs, announces them and makes that durable. The caller saves the seeds after it:
   * without them the logs are nobody's, with them they are whole.
   */
  static async start(
    context: ParcelContext,
    keyring: Keyring,
    control: Control,
    firstRecords: readonly SignedRecord[]
  ): Promise<Incarnation> {
    const seed = (): string => randomBytes(32).toString('hex')
    const id = randomBytes(16)
    const seeds = { id: id.toString('hex'), control: seed(), meta: seed(), data: seed() }
    const made = await Incarnation.open(context, keyring, seeds)
    const { parcel } = control
    const host = context.identity.publicKey
    // A vault has the key of control logs alone: its others stay empty.
    const writable = made.logs.filter(({ kind }) => keyring.canSeal(kind))
    for (const log of writable) {
      await log.append([[encodeCoreHeader({ kind: log.kind, parcel, host, incarnation: id })]])
    }
    for (const record of firstRecords) await made.control.append([[encodeSigned(record)]])
    await made.say(context, keyring, control, { type: 'cores', incarnation: made.keys })
    if (keyring.canSeal('meta')) {
      await made.meta.append([[encodeMetaRecord({ type: 'name', name: context.hostName })]])
    }
    await context.store.flush()
    return made
  }

  /** The `data` log that the host goes on in. The caller announces it. */
  withData(data: Log, seed: string): Incarnation {
    const { control, meta, seeds } = this
    return new Incarnation({ ...seeds, data: seed }, { control, meta, data })
  }

  /** Its `cores` record, as it is now. */
  get keys(): CoreKeys {
    const { control, meta, data, seeds } = this
    return {
      id: Buffer.from(seeds.id, 'hex'),
      control: control.key,
      meta: meta.key,
      data: [data.key]
    }
  }

  /** Signs and appends a control record, after everything that is known here. */
  async say(
    { identity, clock }: ParcelContext,
    keyring: Keyring,
    control: Control,
    body: ControlBody,
    extensions: readonly Extension[] = []
  ): Promise<void> {
    const record = signControl(identity, {
      parcel: control.parcel,
      sequence: control.count(identity.publicKey),
      epoch: keyring.newest.epoch,
      parents: control.parents(MAX_PARENTS),
      // Of a host's logs the last ones announced are the current ones, whatever its clock says.
      created:
        body.type === 'cores'
          ? Math.max(clock(), 1 + control.lastAnnounced(identity.publicKey.toString('hex')))
          : clock(),
      body,
      extensions: [...extensions]
    })
    await this.control.append([[encodeSigned(record)]])
    control.add(record, this.control.key)
  }

  /**
   * Length and hash of each log, as far as this host has written it, to notice later that the store was put
   * back to an earlier state.
   */
  async marks(): Promise<LocalState['marks']> {
    const heads = await Promise.all(
      this.logs.map((log) => log.head(Math.min(log.ownLength, log.length)))
    )
    return heads.map(({ key, length, treeHash }) => ({
      core: key.toString('hex'),
      length,
      treeHash: treeHash.toString('hex')
    }))
  }

  /** Whether the logs still have what the marks say, and what follows is this host's own. */
  async fits(marks: LocalState['marks']): Promise<boolean> {
    for (const { core, length, treeHash } of marks) {
      const log = this.logs.find(({ key }) => key.toString('hex') === core)
      if (log === undefined || log.length < length) return false
      if ((await log.head(length)).treeHash.toString('hex') !== treeHash) return false
      // Others had more of it, and this host ended before it went on elsewhere.
      if (log.missing(length, log.length, 1).length > 0) return false
    }
    return true
  }
}
