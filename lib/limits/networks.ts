import { execFile } from 'node:child_process'
import { readFile } from 'node:fs/promises'
import { networkInterfaces } from 'node:os'
import { promisify } from 'node:util'

const run = promisify(execFile)
const PATIENCE = 2_000
/** As long as the routes are the same it is asked again after so long, ms: another wireless network may have the same. */
const FRESH = 20_000
const [UP, GATEWAY] = [0x1, 0x2]

/**
 * What the network that this machine goes out by is called: the interface of its default route, and the name
 * that NetworkManager has for the connection, which is that of a wireless network. Elsewhere than on Linux:
 * all interfaces.
 */
export async function networkNames(): Promise<string[]> {
  const table = await readFile('/proc/net/route', 'latin1').catch(() => null)
  if (table === null) return Object.keys(networkInterfaces())
  if (last !== null && last.table === table && performance.now() - last.at < FRESH)
    return last.names
  const names: string[] = []
  for (const device of defaultRoutes(table)) {
    names.push(device)
    const said = await run('nmcli', ['-g', 'GENERAL.CONNECTION', 'device', 'show', device], {
      timeout: PATIENCE
    }).catch(() => null)
    const name = said?.stdout.trim() ?? ''
    if (name !== '') names.push(name)
  }
  last = { table, names, at: performance.now() }
  return names
}

let last: { table: string; names: string[]; at: number } | null = null

/** Interfaces of the default routes with the lowest metric, as /proc/net/route has them. */
function defaultRoutes(table: string): string[] {
  const routes = table
    .split('\n')
    .slice(1)
    .flatMap((line) => {
      const [device, to, , flags, , , metric, mask] = line.split('\t')
      const isAll = to === '00000000' && mask === '00000000'
      const isDefault = isAll && (parseInt(flags ?? '0', 16) & (UP | GATEWAY)) >= UP
      return device === undefined || !isDefault ? [] : [{ device, metric: Number(metric) }]
    })
  const best = Math.min(...routes.map(({ metric }) => metric))
  return [...new Set(routes.flatMap(({ device, metric }) => (metric === best ? [device] : [])))]
}
