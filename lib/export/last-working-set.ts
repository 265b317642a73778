import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { WORKING_SET, type Touched } from './working-set.js'

const schema = z.object({
  files: z.array(z.string()),
  touched: z.array(
    z.tuple([z.number().int().min(0), z.number().int().min(0), z.number().int().min(1).max(0xffff)])
  )
})

/** What the last machine with these overlays used; null when nobody watched, or it is damaged. */
export async function readWorkingSet(overlays: string): Promise<Touched | null> {
  const text = await readFile(join(overlays, WORKING_SET), 'utf8').catch(() => null)
  if (text === null) return null
  try {
    return schema.parse(JSON.parse(text))
  } catch {
    return null
  }
}
