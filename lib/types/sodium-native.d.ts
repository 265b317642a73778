declare module 'sodium-native' {
  interface Sodium {
    readonly crypto_sign_PUBLICKEYBYTES: number
    readonly crypto_sign_SECRETKEYBYTES: number
    readonly crypto_box_SEALBYTES: number
    readonly crypto_secretbox_MACBYTES: number
    readonly crypto_pwhash_SALTBYTES: number
    readonly crypto_pwhash_ALG_ARGON2ID13: number
    readonly crypto_pwhash_OPSLIMIT_MODERATE: number
    readonly crypto_pwhash_MEMLIMIT_MODERATE: number
    readonly crypto_pwhash_OPSLIMIT_MIN: number
    readonly crypto_pwhash_MEMLIMIT_MIN: number
    crypto_pwhash_async(
      out: Buffer,
      passphrase: Buffer,
      salt: Buffer,
      passes: number,
      memory: number,
      algorithm: number
    ): Promise<void>
    randombytes_buf(out: Buffer): void
    crypto_generichash(out: Buffer, input: Buffer, key?: Buffer): void
    crypto_generichash_batch(out: Buffer, inputs: readonly Buffer[], key?: Buffer): void
    crypto_sign_seed_keypair(publicKey: Buffer, secretKey: Buffer, seed: Buffer): void
    crypto_sign_detached(signature: Buffer, message: Buffer, secretKey: Buffer): void
    crypto_sign_verify_detached(signature: Buffer, message: Buffer, publicKey: Buffer): boolean
    crypto_sign_ed25519_pk_to_curve25519(out: Buffer, publicKey: Buffer): void
    crypto_sign_ed25519_sk_to_curve25519(out: Buffer, secretKey: Buffer): void
    crypto_scalarmult(out: Buffer, secretKey: Buffer, publicKey: Buffer): void
    crypto_box_seal(out: Buffer, message: Buffer, publicKey: Buffer): void
    crypto_box_seal_open(out: Buffer, sealed: Buffer, publicKey: Buffer, secretKey: Buffer): boolean
    crypto_secretbox_easy(out: Buffer, message: Buffer, nonce: Buffer, key: Buffer): void
    crypto_secretbox_open_easy(out: Buffer, box: Buffer, nonce: Buffer, key: Buffer): boolean
    crypto_aead_xchacha20poly1305_ietf_encrypt_detached(
      out: Buffer,
      tag: Buffer,
      message: Buffer,
      associated: Buffer,
      none: null,
      nonce: Buffer,
      key: Buffer
    ): number
    /** Throws when the tag does not fit. */
    crypto_aead_xchacha20poly1305_ietf_decrypt_detached(
      out: Buffer,
      none: null,
      ciphertext: Buffer,
      tag: Buffer,
      associated: Buffer,
      nonce: Buffer,
      key: Buffer
    ): void
  }
  const sodium: Sodium
  export default sodium
}
