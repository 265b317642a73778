import { ParcelError } from '../../errors.js'
import { MAX_EPOCHS_LISTED, type EpochKeys } from '../../format/epoch-keys.js'
import type { ControlBody } from '../../format/control-record.js'
import {
  decodeRecovery,
  encodeRecovery,
  type Recovery,
  type RecoveryAnswer
} from '../../format/recovery.js'
import { sealTo, type Identity } from '../../keys/identity.js'
import { verify } from './control.js'

/** What a host says in a parcel so that its 24 words alone bring it back into it. */
export function recoveryRecord(
  parcel: Buffer,
  identity: Identity,
  { name, driver, epochs }: { name: string; driver: string; epochs: readonly EpochKeys[] }
): ControlBody {
  const newest = epochs.toSorted((a, b) => b.epoch - a.epoch).slice(0, MAX_EPOCHS_LISTED)
  const bytes = encodeRecovery(parcel, { name, driver, epochs: newest })
  const box = sealTo(identity.publicKey, bytes)
  return { type: 'recovery', topic: identity.recoveryTopic, box }
}

/** Opens what some host says is this one's own record. Throws INTEGRITY when it is not. */
export function openRecovery({ parcel, record }: RecoveryAnswer, identity: Identity): Recovery {
  const { record: said } = verify(record)
  const isOurs = said.author.equals(identity.publicKey) && said.parcel.equals(parcel)
  const bytes = isOurs && said.body.type === 'recovery' ? identity.unseal(said.body.box) : null
  if (bytes === null) throw new ParcelError('INTEGRITY', 'this record is not of this host')
  return decodeRecovery(parcel, bytes)
}
