import { sodium } from './sodium.js'

/**
 * Every domain-separation constant of hyperparcel, in one place: a hash, a derived key or a
 * signature made for one purpose can never serve another. Each is BLAKE2b-256 of its name.
 */
export const NS = {
  chunk: namespace('chunk id'),
  page: namespace('manifest page'),
  version: namespace('version id'),
  versionSignature: namespace('version signature'),
  control: namespace('control record id'),
  controlSignature: namespace('control record signature'),
  pairingNumber: namespace('pairing number'),
  pairingLink: namespace('pairing link'),
  pairingKey: namespace('pairing key'),
  factsSignature: namespace('facts signature'),
  machine: namespace('machine number'),
  fingerprint: namespace('fingerprint words'),
  joinSignature: namespace('join request signature'),
  envelope: namespace('block envelope'),
  dataKey: namespace('data key'),
  metaKey: namespace('meta key'),
  controlKey: namespace('control key'),
  keyId: namespace('key id'),
  earlierKeys: namespace('earlier epoch keys'),
  topic: namespace('swarm topic'),
  recovery: namespace('recovery topic'),
  pair: namespace('pair secret'),
  lanTag: namespace('tag on a network'),
  knock: namespace('knock at a port'),
  channel: namespace('parcel channel'),
  index: namespace('chunk index'),
  atRest: namespace('sealed file')
} as const

function namespace(name: string): Buffer {
  const out = Buffer.alloc(32)
  sodium.crypto_generichash(out, Buffer.from(`hyperparcel/1/${name}`))
  return out
}
