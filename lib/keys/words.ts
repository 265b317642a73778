import { wordlist } from '@scure/bip39/wordlists/english.js'
import { keyedHash } from './hash.js'
import { randomBytes } from './identity.js'
import { NS } from './namespaces.js'

/** Words of a fingerprint: 55 bits, as many as two people will compare. */
const FINGERPRINT = 5

/** A key in words that two people can read to each other. */
export function fingerprint(publicKey: Buffer): string {
  return wordsOf(keyedHash(NS.fingerprint, publicKey), FINGERPRINT).join(' ')
}

export function randomWords(count: number): string[] {
  return wordsOf(randomBytes(2 * count), count)
}

/** Eleven bits a word: the list of BIP 39 has 2,048. */
function wordsOf(bytes: Buffer, count: number): string[] {
  return Array.from({ length: count }, (_, n) => wordlist[bytes.readUInt16LE(2 * n) & 2_047] ?? '')
}
