import { writeFile } from 'node:fs/promises'
import { primitives } from './primitives.js'
import { records } from './records.js'
import { storage } from './storage.js'

/** Writes every vector file anew. Nothing here is random, so without a change of format there is no diff. */
const target = new URL('../../../test/vectors/', import.meta.url)
for (const [name, file] of Object.entries({ ...primitives(), ...storage(), ...records() })) {
  await writeFile(new URL(`${name}.json`, target), `${JSON.stringify(file, null, 2)}\n`)
}
