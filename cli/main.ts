#!/usr/bin/env node
import { writeSync } from 'node:fs'
import { Command, CommanderError } from 'commander'
import { ParcelError, VERSION } from '../lib/client.js'
import { EXIT } from './exit.js'
import { addVerb } from './verbs/add.js'
import { attachVerb } from './verbs/attach.js'
import { carryVerb } from './verbs/carry.js'
import { consistencyVerb } from './verbs/consistency.js'
import { copiesVerb } from './verbs/copies.js'
import { daemonVerb } from './verbs/daemon.js'
import { doctorVerb } from './verbs/doctor.js'
import { dhtVerb } from './verbs/dht.js'
import { diffVerb } from './verbs/diff.js'
import { discardVerb } from './verbs/discard.js'
import { eventsVerb } from './verbs/events.js'
import { forgetVerb } from './verbs/forget.js'
import { wakeVerb } from './verbs/wake.js'
import { hoardVerb, unhoardVerb } from './verbs/hoard.js'
import { idVerb } from './verbs/id.js'
import { initVerb } from './verbs/init.js'
import { inviteVerb, linkVerb } from './verbs/invite.js'
import { joinVerb } from './verbs/join.js'
import { passphraseVerb, phraseVerb } from './verbs/keys.js'
import { membersVerb, revokeVerb, rotateVerb } from './verbs/members.js'
import { leaseVerb } from './verbs/lease.js'
import { limitsVerb, pauseVerb } from './verbs/limits.js'
import { logVerb } from './verbs/log.js'
import { lsVerb } from './verbs/ls.js'
import { mountVerb, nbdVerb } from './verbs/mount.js'
import { predictVerb } from './verbs/predict.js'
import { pruneVerb } from './verbs/prune.js'
import { rebuildVerb } from './verbs/rebuild.js'
import { removeVerb } from './verbs/remove.js'
import { renameVerb } from './verbs/rename.js'
import { resolveVerb } from './verbs/resolve.js'
import { restoreVerb } from './verbs/restore.js'
import { resumeVerb } from './verbs/resume.js'
import { rollbackVerb } from './verbs/rollback.js'
import { runVerb } from './verbs/run.js'
import { scrubVerb } from './verbs/scrub.js'
import { showVerb } from './verbs/show.js'
import { statusVerb } from './verbs/status.js'
import { stopVerb } from './verbs/stop.js'
import { suspendVerbs } from './verbs/suspend.js'
import { tagVerb } from './verbs/tag.js'
import { transfersVerb } from './verbs/transfers.js'
import { vaultVerb } from './verbs/vault.js'
import { salvageVerb, verifyVerb } from './verbs/verify.js'

const program = new Command('hyperparcel')
  .description('Suspend a machine here, resume it there, with no server in between.')
  .option('--home <dir>', 'where this host lives (default: HYPERPARCEL_HOME, else the data folder)')
  .option(
    '--bootstrap <host:port>',
    'use a private DHT (default: HYPERPARCEL_BOOTSTRAP, else public)'
  )
  .option('--json', 'print one JSON object a line')
  .showHelpAfterError("(see 'hyperparcel --help')")
  .exitOverride()
  .configureOutput(process.argv.includes('--json') ? { writeErr: () => {} } : {})
  .addHelpText(
    'after',
    `
Two hosts, one machine:
  here    hyperparcel init
          hyperparcel add ~/vm/work --name work --vm qemu
          hyperparcel run work
          hyperparcel suspend work
          hyperparcel invite work            prints an invite
  there   hyperparcel init
          hyperparcel join INVITE
          hyperparcel resume work            goes on where it stopped

'hyperparcel --version' prints the version.`
  )

for (const define of [
  initVerb,
  idVerb,
  addVerb,
  removeVerb,
  lsVerb,
  statusVerb,
  eventsVerb,
  transfersVerb,
  predictVerb,
  wakeVerb,
  hoardVerb,
  unhoardVerb,
  limitsVerb,
  pauseVerb,
  logVerb,
  showVerb,
  diffVerb,
  tagVerb,
  rollbackVerb,
  restoreVerb,
  resolveVerb,
  renameVerb,
  verifyVerb,
  salvageVerb,
  scrubVerb,
  rebuildVerb,
  runVerb,
  suspendVerbs,
  copiesVerb,
  forgetVerb,
  pruneVerb,
  consistencyVerb,
  leaseVerb,
  resumeVerb,
  attachVerb,
  stopVerb,
  discardVerb,
  mountVerb,
  nbdVerb,
  inviteVerb,
  linkVerb,
  joinVerb,
  vaultVerb,
  carryVerb,
  membersVerb,
  revokeVerb,
  rotateVerb,
  passphraseVerb,
  phraseVerb,
  daemonVerb,
  dhtVerb,
  doctorVerb
]) {
  define(program)
}
inheritExit(program)

// `resume --version V` is another thing, so this one is not commander's.
if (process.argv[2] === '--version' || process.argv[2] === '-V') {
  console.log(VERSION)
  process.exit(0)
}

for (const stream of [process.stdout, process.stderr]) stream.on('error', endWithout)

const isJson = process.argv.includes('--json')
try {
  await program.parseAsync()
} catch (error) {
  if (!(error instanceof CommanderError)) throw error
  process.exitCode = error.exitCode === 0 ? 0 : EXIT.USAGE
  if (isJson && error.exitCode !== 0) {
    const message = error.message.replace(/^error: /, '')
    console.log(JSON.stringify({ type: 'error', code: 'USAGE', message, exit: EXIT.USAGE }))
  }
}

/** What we say cannot be written. Whoever reads us may go away, as `head` does: no failure of ours. */
function endWithout(error: NodeJS.ErrnoException): never {
  if (error.code === 'EPIPE') process.exit(0)
  const { code, message } = ParcelError.from(error, 'cannot write what there is to say')
  try {
    writeSync(2, `hyperparcel: ${message}\n`)
  } catch {
    // It is standard error itself.
  }
  process.exit(EXIT[code])
}

/** Subcommands made by hand do not take over the setting. */
function inheritExit(command: Command): void {
  for (const child of command.commands) {
    child.exitOverride().showHelpAfterError(`(see 'hyperparcel ${child.name()} --help')`)
    if (process.argv.includes('--json')) child.configureOutput({ writeErr: () => {} })
    inheritExit(child)
  }
}
