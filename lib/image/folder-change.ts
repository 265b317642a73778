import { z } from 'zod'

const id = z.coerce.bigint()
const name = z.string().min(1).max(255)
const at = z.number()
const change = z.discriminatedUnion('change', [
  z.strictObject({
    change: z.literal('make'),
    type: z.enum(['file', 'folder', 'symlink']),
    id,
    parent: id,
    name,
    mode: z.number().int().min(0).max(0o7777),
    mtime: z.coerce.bigint(),
    /** Of a link; else ''. */
    target: z.string().max(4_096),
    at
  }),
  z.strictObject({ change: z.literal('remove'), parent: id, name, at }),
  /** What is there under the new name is removed. */
  z.strictObject({ change: z.literal('move'), parent: id, name, to: id, as: name, at }),
  z.strictObject({
    change: z.literal('attributes'),
    id,
    mode: z.number().int().min(0).max(0o7777),
    mtime: z.coerce.bigint(),
    at
  })
])

/**
 * One change of the folders of a version. Numbers are those of the tree; `at`: when it was made, ms
 * since 1970.
 */
export type FolderChange = z.infer<typeof change>

/** A line of a file of changes; null: it is none. */
export function parseChange(line: string): FolderChange | null {
  try {
    return change.safeParse(JSON.parse(line)).data ?? null
  } catch {
    return null
  }
}
