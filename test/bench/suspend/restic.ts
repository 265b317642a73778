import type { Command } from '../measure.js'
import { versionOf } from '../program.js'
import type { Keeper, Place } from './keeper.js'

export const restic: Keeper = {
  name: 'restic',
  how: 'encrypted, --compression auto, --no-cache',
  version: () => versionOf('restic', 'version'),
  init: (place) => [command(place, 'init')],
  store: (place) => command(place, 'backup', place.folder),
  restore: (place, to) => command(place, 'restore', 'latest', '--target', to)
}

function command({ repo }: Place, ...args: string[]): Command {
  const env = { RESTIC_REPOSITORY: repo, RESTIC_PASSWORD: 'bench' }
  return { argv: ['restic', '--no-cache', '--quiet', ...args], env }
}
