import { entropyToMnemonic, mnemonicToEntropy } from '@scure/bip39'
import { wordlist } from '@scure/bip39/wordlists/english.js'
import { ParcelError } from '../errors.js'
import { KEY_BYTES } from '../format/limits.js'

const WORDS = 24

/** A seed of 32 bytes as 24 words, the last of which checks the others (BIP 39). */
export function phraseOf(seed: Buffer): string {
  return entropyToMnemonic(seed, wordlist)
}

/** Reads what `phraseOf` gave, in any case and spacing. Throws BAD_KEY. */
export function seedFrom(phrase: string): Buffer {
  const words = phrase
    .normalize('NFKD')
    .toLowerCase()
    .trim()
    .split(/[\s,]+/)
  const unknown = words.find((word) => !wordlist.includes(word))
  if (words.length !== WORDS) {
    throw new ParcelError(
      'BAD_KEY',
      `a recovery phrase has ${WORDS} words, this has ${words.length}`
    )
  }
  if (unknown !== undefined) {
    const at = words.indexOf(unknown) + 1
    throw new ParcelError(
      'BAD_KEY',
      `word ${at} is none of a recovery phrase: look at its spelling`
    )
  }
  try {
    const seed = Buffer.from(mnemonicToEntropy(words.join(' '), wordlist))
    if (seed.byteLength === KEY_BYTES) return seed
  } catch {
    // Its checksum says so.
  }
  throw new ParcelError(
    'BAD_KEY',
    'these 24 words are not a recovery phrase: is one of them another, or out of order?'
  )
}
