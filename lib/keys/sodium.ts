import { createRequire } from 'node:module'
import type Sodium from 'sodium-native'

/**
 * libsodium. Not imported: Node would first read all 100 KB of its CommonJS module for the names in it, which
 * takes each thread 40 ms.
 */
export const sodium: typeof Sodium = createRequire(import.meta.url)('sodium-native')
