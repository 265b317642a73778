/** Every size that a format fixes, and every bound on what is accepted from disk or network. */

/** Version of all formats but that of versions, which CHUNKING is; a reader refuses a larger one with NEWER_FORMAT. */
export const FORMAT = 1

/**
 * How a file is cut and its chunks are named: by BLAKE2b (1) or by BLAKE3 (2), both in chunks of
 * CHUNK_SIZE. A version's own streams are cut by the number of its format.
 */
export type Chunking = 1 | 2
/** What is written; both are read. */
export const CHUNKING: Chunking = 2

/** Files are cut into aligned chunks of this many bytes; only a file's last chunk is shorter. */
export const CHUNK_SIZE = 65_536
/** Unit of hole masks and patch masks: 16 in a chunk. */
export const SUBPAGE_SIZE = 4_096
/** Entries of one manifest page, leaf or inner. */
export const PAGE_FANOUT = 128
/** A file may stack this many patches on one chunk before they are folded. */
export const MAX_PATCHES = 4

export const HASH_BYTES = 32
export const KEY_BYTES = 32
export const SIGNATURE_BYTES = 64
/** Of a core's tree, as hypercore encodes it for a manifest with one signer. */
export const MAX_CORE_SIGNATURE = 128
export const KEY_ID_BYTES = 16
export const NONCE_BYTES = 24
export const TAG_BYTES = 16
/** format, key id, nonce, tag */
export const ENVELOPE_BYTES = 1 + KEY_ID_BYTES + NONCE_BYTES + TAG_BYTES
/** The length field in front of every sealed body. */
export const LENGTH_BYTES = 4

/** Largest block of any core, sealed: hypercore sends a block as one message. */
export const MAX_BLOCK = 4 * 1024 * 1024
export const MAX_PACK_ITEMS = 16_384
export const MAX_PACK_RAW = 3 * 1024 * 1024

/** Largest declared file: 256 TiB. */
export const MAX_FILE_SIZE = 2 ** 48
/** Largest file table, which is itself cut into chunks: 16 GiB. */
export const MAX_TABLE_SIZE = 2 ** 34
export const MAX_PATH_BYTES = 4_096
/** 64 characters of at most 4 bytes. */
export const MAX_NAME_BYTES = 256
export const MAX_DRIVER_BYTES = 32
export const MAX_PARENTS = 64
export const MAX_CORES = 65_536
/** Data cores that one incarnation may announce, and announcements in one message. */
export const MAX_ANNOUNCED = 64
export const MAX_MEMBERS = 4_096
/** Of a working set: files, pages of chunks in order of their first use, blocks that have them. */
export const MAX_TRACE_FILES = 64
export const MAX_TRACE_CHUNKS = 65_536
export const MAX_TRACE_BLOCKS = 65_536
export const MAX_FACTS = 1_024
export const MAX_TEXT = 4_096
export const MAX_EXTENSIONS = 256
export const MAX_EXTENSION_BYTES = 65_536

/** How many chunks a file of this size has. */
export function chunkCount(size: number): number {
  return Math.ceil(size / CHUNK_SIZE)
}

/** Bytes of chunk `index` of a file of this size. */
export function chunkLength(size: number, index: number): number {
  return Math.min(CHUNK_SIZE, size - index * CHUNK_SIZE)
}
