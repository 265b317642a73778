import type { Command } from '../measure.js'
import { OUR_VERSION, ourProgram } from '../ours.js'
import { OURS } from '../report.js'
import type { Keeper, Place } from './keeper.js'

/** A keeper on a DHT at `address`, which it only looks for peers in. */
export function oursAt(address: string): Keeper {
  const command = (...args: string[]): Command => {
    const [step = '', ...rest] = args
    return { argv: ourProgram('./ours-process.js', import.meta.url, step, address, ...rest) }
  }
  return {
    name: OURS,
    how: 'encrypted, zstd, synced; a process of its own for each step',
    version: () => OUR_VERSION,
    init: ({ repo, folder }) => [command('init', repo, folder)],
    store: ({ repo }) => command('suspend', repo),
    restore: ({ repo }, to) => command('resume', repo, to),
    call: (stdout) => JSON.parse(stdout)
  }
}

/** Without compression, to see what that takes. Only when asked for with --tools. */
export function plainAt(address: string): Keeper {
  const ours = oursAt(address)
  const store = (place: Place): Command => {
    const { argv } = ours.store(place)
    const [node, ...rest] = argv
    return { argv: [node, ...rest.map((word) => (word === 'suspend' ? 'suspend-plain' : word))] }
  }
  return { ...ours, name: `${OURS}-plain`, how: 'as hyperparcel, without compression', store }
}
