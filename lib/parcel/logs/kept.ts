/**
 * The same bytes in memory of their own: small buffers are cut out of larger ones, which stay as long as
 * any of them does.
 */
export function kept(bytes: Buffer): Buffer {
  const own = Buffer.alloc(bytes.byteLength)
  bytes.copy(own)
  return own
}
