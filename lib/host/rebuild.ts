import { rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { ParcelError } from '../errors.js'
import { readHome } from '../home.js'
import { makeDurable } from '../keys/at-rest.js'
import { namesIn } from '../paths.js'

const STORE = 'store'
const ASIDE = 'store.damaged-'

/**
 * Sets a store aside that does not open any more, so that the next start begins with an empty one and
 * fetches everything from other hosts: keys, names and folders are not in it. No process may have
 * it open. Returns where it is now. Throws NO_STORE.
 */
export async function setStoreAside(wanted: string): Promise<string> {
  const { dir } = await readHome(wanted)
  const names = await namesIn(dir)
  if (!names.includes(STORE)) throw new ParcelError('NO_STORE', `there is no store in ${dir}`)
  let n = 1
  while (names.includes(`${ASIDE}${n}`)) n++
  const aside = join(dir, `${ASIDE}${n}`)
  // It only says where in the store chunks are.
  await rm(join(dir, 'index'), { recursive: true, force: true })
  await rename(join(dir, STORE), aside)
  await makeDurable(dir)
  return aside
}
