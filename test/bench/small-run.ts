import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { z } from 'zod'
import { missingForImages } from './image.js'

const MAIN = fileURLToPath(new URL('./main.js', import.meta.url))

/** For tests: why the bench cannot run here, or false. */
export const skip = missingForImages() ?? false

const Figure = z.object({ median: z.number(), min: z.number(), max: z.number() })
const Report = z.object({
  machine: z.object({ cores: z.number(), kernel: z.string() }),
  tools: z.array(z.object({ tool: z.string(), version: z.string().nullable(), how: z.string() })),
  parts: z.array(
    z.object({
      part: z.string(),
      data: z.string(),
      tasks: z.array(
        z.object({
          task: z.string(),
          tools: z.array(z.object({ tool: z.string(), figures: z.record(z.string(), Figure) }))
        })
      )
    })
  )
})

/** Runs one part of the bench on 16 MB, once. */
export async function bench(part: string, tools = 'hyperparcel'): Promise<z.infer<typeof Report>> {
  const args = [MAIN, part, '--data', '16', '--runs', '1', '--tools', tools, '--json']
  const { stdout } = await promisify(execFile)(process.execPath, args)
  return Report.parse(JSON.parse(stdout))
}
