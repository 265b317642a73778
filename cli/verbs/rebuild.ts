import type { Command } from 'commander'
import { type DaemonClient, homeDir, ParcelError } from '../../lib/client.js'
import { follow, library, verb } from '../context.js'
import { seconds } from '../options.js'

async function opens(client: DaemonClient): Promise<boolean> {
  try {
    return (await client.call('ls', {})).problems.length === 0
  } catch (error) {
    if (error instanceof ParcelError && error.code === 'INTEGRITY') return false
    throw error
  }
}

export function rebuildVerb(program: Command): void {
  const command = program
    .command('rebuild')
    .description('set a store aside that does not open any more, and fetch everything again')
    .option('--timeout <seconds>', 'how long to wait for a host that has it', seconds, 60)
    .option('--force', 'also when it opens', false)
    .addHelpText(
      'after',
      `
Keys, names and folders of this host stay. What other hosts and vaults have comes back; versions that
were in this store alone do not, and the store is kept beside the new one until you remove it. What is
damaged in a store that opens, 'hyperparcel verify' repairs.
Example: hyperparcel rebuild`
    )
  verb(command, async (context, self) => {
    const { client, options, terminal } = context
    const { timeout, force } = self.opts<{ timeout: number; force: boolean }>()
    if (!force && (await opens(client))) {
      throw new ParcelError(
        'USAGE',
        "the store opens: 'hyperparcel verify' repairs what is damaged in it (--force sets it aside all the same)"
      )
    }
    await client.stop()
    const { setStoreAside } = await library()
    const aside = await setStoreAside(homeDir(options.home))
    terminal.result('rebuild', { aside }, `the damaged store is in ${aside} now`)
    const parcels = await client.call('recover', { timeout: timeout * 1_000 }, follow(context))
    const lost = parcels.filter(({ members }) => members.length < 2).map(({ name }) => name)
    for (const parcel of parcels) {
      const text = lost.includes(parcel.name)
        ? `no other host has ${parcel.name}: what there was of it is in ${aside} alone`
        : `${parcel.name} comes back, as far as others have it: 'hyperparcel status' shows how far`
      terminal.result('parcel', parcel, text)
    }
    if (lost.length > 0) {
      throw new ParcelError(
        'PARTIAL',
        `nobody else has ${lost.join(', ')}: that does not come back`
      )
    }
  })
}
