import { join } from 'node:path'
import type { TestContext } from 'node:test'
import NoiseSecretStream from '@hyperswarm/secret-stream'
import { WorkerPool } from '../../lib/chunk/worker-pool.js'
import type { CoreKind } from '../../lib/format/core-header.js'
import { keyPairFrom, randomBytes, type KeyPair } from '../../lib/keys/identity.js'
import { Keyring } from '../../lib/keys/keyring.js'
import { ChunkIndex } from '../../lib/log/chunk-index.js'
import { CoreTable } from '../../lib/log/core-table.js'
import type { Log } from '../../lib/log/log.js'
import { PackReader } from '../../lib/log/pack-reader.js'
import { PackWriter } from '../../lib/log/pack-writer.js'
import { Store } from '../../lib/log/store.js'
import { onEnd } from '../support/on-end.js'
import { scratch } from '../support/scratch.js'

export const PARCEL = Buffer.alloc(32, 7)

export function aKeyring(): Keyring {
  const secrets = { epochKey: Buffer.alloc(32, 1), controlKey: Buffer.alloc(32, 2) }
  return new Keyring(PARCEL, [{ epoch: 0, record: null, ...secrets }])
}

export function aKeyPair(): KeyPair {
  return keyPairFrom(randomBytes(32))
}

/** A store that closes itself, unless the test did before. */
export async function openStore(t: TestContext, dir: string): Promise<Store> {
  const store = await Store.open(dir)
  onEnd(t, () => store.close())
  return store
}

/** An own log in a store of its own. */
export async function aLog(
  t: TestContext,
  kind: CoreKind = 'data'
): Promise<{ dir: string; store: Store; log: Log; keyPair: KeyPair }> {
  const dir = join(await scratch(t), 'store')
  const store = await openStore(t, dir)
  const keyPair = aKeyPair()
  const log = await store.own(kind, keyPair, aKeyring())
  await log.append([[Buffer.from('header')]])
  return { dir, store, log, keyPair }
}

/** All that is needed to pack items into a log and to read them again. */
export async function packs(t: TestContext) {
  const { store, log } = await aLog(t)
  const index = await ChunkIndex.open(join(await scratch(t), 'index'), randomBytes(32))
  onEnd(t, () => index.close())
  const pool = new WorkerPool()
  onEnd(t, () => pool.close())
  const writer = (compress = false): PackWriter => {
    return new PackWriter({
      log,
      pool,
      parcel: PARCEL,
      index,
      cores: new CoreTable([log.key]),
      mayRefer: (_, block) => block < log.length,
      compress,
      flush: () => store.flush(),
      requireRoom: async () => {}
    })
  }
  const reader = (): PackReader => new PackReader(new CoreTable([log.key]), async () => log)
  return { store, log, index, pool, writer, reader }
}

/** Connects two ends of logs by encrypted streams in this process. Returns how to cut them. */
export function connect(t: TestContext, from: readonly Log[], to: readonly Log[]): () => void {
  const a = new NoiseSecretStream(true)
  const b = new NoiseSecretStream(false)
  a.rawStream.pipe(b.rawStream).pipe(a.rawStream)
  for (const stream of [a, b]) stream.on('error', () => {})
  for (const log of from) log.replicate(a)
  for (const log of to) log.replicate(b)
  const cut = (): void => {
    a.destroy()
    b.destroy()
  }
  onEnd(t, cut)
  return cut
}
