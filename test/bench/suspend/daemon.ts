import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Command } from '../measure.js'
import { OUR_VERSION } from '../ours.js'
import { OURS } from '../report.js'
import type { Keeper, Place } from './keeper.js'

const PROGRAM = fileURLToPath(new URL('../../../cli/main.js', import.meta.url))

/** What somebody waits for who has hyperparcel in daily use: a command, and a daemon that is up. */
export function daemonAt(address: string): Keeper {
  const command = ({ repo }: Place, ...args: string[]): Command => ({
    argv: [process.execPath, PROGRAM, ...args],
    env: { HYPERPARCEL_HOME: join(repo, 'home'), HYPERPARCEL_BOOTSTRAP: address }
  })
  return {
    name: `${OURS}-daemon`,
    how: 'the command beside a daemon that is up: CPU and memory of both',
    version: () => OUR_VERSION,
    init: (place) => [
      command(place, 'init', '--name', 'bench'),
      command(place, 'add', place.folder, '--name', 'image', '--vm', 'folder')
    ],
    store: (place) => command(place, 'suspend', 'image'),
    restore: (place, to) => command(place, 'resume', 'image', '--to', to),
    service: (place) => pidOf(command(place, 'daemon', 'status', '--json')),
    end: (place) => [command(place, 'daemon', 'stop')]
  }
}

function pidOf({ argv: [program, ...args], env }: Command): number {
  const { stdout } = spawnSync(program, args, { env: { ...process.env, ...env }, encoding: 'utf8' })
  const pid = /"pid":(\d+)/.exec(stdout)?.[1]
  if (pid === undefined) throw new Error(`no daemon is up: ${stdout}`)
  return Number(pid)
}
