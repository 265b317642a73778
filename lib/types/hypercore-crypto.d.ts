declare module 'hypercore-crypto' {
  /** The hash of a Merkle tree, of its roots. */
  export function tree(roots: readonly { index: number; size: number; hash: Buffer }[]): Buffer
}
