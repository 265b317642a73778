import { join } from 'node:path'
import type { Command } from '../measure.js'
import { versionOf } from '../program.js'
import type { Keeper, Place } from './keeper.js'

export const borg: Keeper = {
  name: 'borg',
  how: 'encrypted (repokey-blake2), lz4',
  version: () => versionOf('borg', '--version'),
  init: (place) => [command(place, 'init', '--encryption', 'repokey-blake2')],
  store: (place) =>
    command(place, 'create', '--compression', 'lz4', `::v${place.version}`, place.folder),
  restore: (place, to) => ({
    ...command(place, 'extract', '--sparse', `::v${place.version}`),
    cwd: to
  })
}

function command({ repo }: Place, ...args: string[]): Command {
  const env = {
    BORG_REPO: join(repo, 'repo'),
    BORG_PASSPHRASE: 'bench',
    // Its caches and keys too, or it would find those of another run.
    BORG_BASE_DIR: join(repo, 'base')
  }
  return { argv: ['borg', ...args], env }
}
