import { resolve } from 'node:path'
import type { Command } from 'commander'
import { ParcelError, type LossInfo } from '../../lib/client.js'
import { follow, verb, type Context } from '../context.js'
import { seconds, share } from '../options.js'
import { bytes } from '../terminal.js'
import { lossText, shortId } from '../text.js'

function onLoss({ terminal }: Context): (loss: LossInfo) => void {
  return (loss) => terminal.result('lost', loss, `lost: ${lossText(loss)}`)
}

export function verifyVerb(program: Command): void {
  const command = program
    .command('verify')
    .description('read what is here, and fetch again what is damaged; without a name, all parcels')
    .argument('[name]', 'the parcel')
    .option('--sample <share>', 'only so much of it, chosen by chance, such as 5%', share, 1)
    .option('--timeout <seconds>', 'how long others may take to send what is damaged', seconds, 60)
    .addHelpText(
      'after',
      `
Each block is compared with the signature of its log, each piece of a file with its id. What no host
sends is named with the versions, files and ranges (OFFSET+LENGTH) that it touches, and the exit status
is 7; 'hyperparcel salvage' brings out the rest, and the next suspend stores anew what is in the folder.
Example: hyperparcel verify work --sample 5%`
    )
  verb(command, async (context, self) => {
    const [name] = self.args
    const { sample, timeout } = self.opts<{ sample: number; timeout: number }>()
    const what = { sample, timeout: timeout * 1_000, ...(name === undefined ? {} : { name }) }
    const result = await context.client.each('verify', what, onLoss(context), follow(context))
    const { blocks, bytes: size, repaired, lost, lostRecords, unproved } = result
    const damaged = repaired + lost
    const found =
      damaged === 0 ? 'nothing is damaged' : `${damaged} were damaged, ${repaired} came again`
    context.terminal.result('verified', result, `${blocks} blocks (${bytes(size)}): ${found}`)
    if (unproved > 0 && lost === 0) {
      throw new ParcelError(
        'INTEGRITY',
        `what proves ${unproved} whole blocks is damaged: 'hyperparcel rebuild' fetches all anew`
      )
    }
    if (lost === 0) return
    const records = lostRecords === 0 ? '' : `, ${lostRecords} of them records,`
    throw new ParcelError(
      'INTEGRITY',
      `${lost} damaged blocks${records} are on no host in reach: bring another online and do it again`
    )
  })
}

export function salvageVerb(program: Command): void {
  const command = program
    .command('salvage')
    .description('write all of a version that can be read into a new folder')
    .argument('<name>', 'the parcel')
    .argument('[version]', 'the beginning of its id, a tag or a branch (default: the newest)')
    .requiredOption('--to <dir>', 'a folder that is empty or not there yet')
    .addHelpText(
      'after',
      `
What cannot be read is a hole in its file, and named; the exit status is 3 then. Only what is on this
host is read: 'hyperparcel verify' has what is damaged sent again first.
Example: hyperparcel salvage work --to /tmp/rescued`
    )
  verb(command, async (context, self) => {
    const [name = '', version] = self.args
    const to = resolve(self.opts<{ to: string }>().to)
    const result = await context.client.each(
      'salvage',
      version === undefined ? { name, to } : { name, to, version },
      onLoss(context),
      follow(context)
    )
    const { files, lost, path } = result
    context.terminal.result(
      'salvaged',
      { name, ...result },
      `${files} files of ${name} ${shortId(result.version)} in ${path}`
    )
    if (lost > 0) {
      const what = lost === 1 ? '1 file lacks' : `${lost} files lack`
      throw new ParcelError('PARTIAL', `${what} something: see above`)
    }
  })
}
