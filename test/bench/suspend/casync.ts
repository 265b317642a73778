import { join } from 'node:path'
import { versionOf } from '../program.js'
import type { Keeper, Place } from './keeper.js'

export const casync: Keeper = {
  name: 'casync',
  how: 'not encrypted, zstd, does not sync, stores disk.img alone',
  version: () => versionOf('casync', '--version'),
  init: () => [],
  store: (place) => ({
    argv: ['casync', 'make', storeOf(place), indexOf(place), join(place.folder, 'disk.img')]
  }),
  restore: (place, to) => ({
    argv: ['casync', 'extract', storeOf(place), indexOf(place), join(to, 'disk.img')]
  })
}

function storeOf({ repo }: Place): string {
  return `--store=${join(repo, 'store.castr')}`
}

function indexOf({ repo, version }: Place): string {
  return join(repo, `v${version}.caibx`)
}
