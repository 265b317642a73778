import { randomBytes } from 'node:crypto'
import { readdir } from 'node:fs/promises'
import { resolve } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import type { Command } from 'commander'
import { ParcelError } from '../../lib/client.js'
import type { ImagePlace, ImageProcess, ImageSpec } from '../../lib/index.js'
import { follow, library, verb, type Context } from '../context.js'
import { port, seconds } from '../options.js'
import { bytes } from '../terminal.js'
import { shortId } from '../text.js'

interface Options {
  version?: string
  readOnly: boolean
  socket?: string
  port?: number
  prefetch: boolean
  timeout: number
}

/** A folder for programs that read it in order, a disk for those that know what they want. */
const READAHEAD = 1_048_576

export function mountVerb(program: Command): void {
  const command = program
    .command('mount')
    .description('show a version as a folder; what is written to it stays on this host')
    .argument('<name>', 'the parcel')
    .argument('<dir>', 'an empty folder')
  options(command).addHelpText(
    'after',
    '\nIt serves until Ctrl-C or an unmount; only you see it, unless you are root.\nExample: hyperparcel mount work /mnt/work'
  )
  verb(command, async (context, self) => {
    const [name = '', dir = ''] = self.args
    const chosen = self.opts<Options>()
    const mount = resolve(dir)
    const there = await readdir(mount).catch(() => [])
    if (there.length > 0) {
      throw new ParcelError('CONFLICT', `${mount} is not empty: choose another folder`)
    }
    await serve(context, name, chosen, { mount }, (place) => ({
      event: 'mounted',
      fields: { dir: mount },
      text: `${name} ${shortId(place.version)} is at ${mount}; Ctrl-C or '${unmounts()} ${mount}' ends it`
    }))
  })
}

export function nbdVerb(program: Command): void {
  const command = program
    .command('nbd')
    .description('serve the files of a version as network block devices, each by its path')
    .argument('<name>', 'the parcel')
    .option('--socket <path>', 'a unix socket (default: one in the home folder)')
    .option('--port <port>', 'TCP on 127.0.0.1 instead; names then begin with a token', port)
  options(command).addHelpText(
    'after',
    '\nIt serves until Ctrl-C.\nExample: hyperparcel nbd work --socket /tmp/work.sock\n' +
      "         qemu-img info 'nbd+unix:///disk.img?socket=/tmp/work.sock'"
  )
  verb(command, async (context, self) => {
    const [name = ''] = self.args
    const chosen = self.opts<Options>()
    if (chosen.socket !== undefined && chosen.port !== undefined) {
      throw new ParcelError('USAGE', 'either --socket or --port')
    }
    const token = randomBytes(16).toString('hex')
    const at = (place: ImagePlace): ImageSpec['nbd'] =>
      chosen.port === undefined
        ? { socket: resolve(chosen.socket ?? `${place.overlays}.sock`) }
        : { port: chosen.port, token }
    await serve(context, name, chosen, { at }, (place, server) => {
      const nbd = at(place)
      const uri = (file: string): string =>
        nbd !== null && 'socket' in nbd
          ? `nbd+unix:///${inUri(file)}?socket=${nbd.socket}`
          : `nbd://127.0.0.1:${server.port}/${token}/${inUri(file)}`
      const where = nbd !== null && 'socket' in nbd ? nbd : { port: server.port, token }
      const exports = server.files.map((path) => ({ path, uri: uri(path) }))
      const lines = exports.slice(0, 20).map((each) => `  ${each.uri}`)
      if (exports.length > lines.length) lines.push(`  and ${exports.length - lines.length} more`)
      const text = `${name} ${shortId(place.version)} is served; Ctrl-C ends it\n${lines.join('\n')}`
      return { event: 'serving', fields: { ...where, exports }, text }
    })
  })
}

function options(command: Command): Command {
  return command
    .option('--version <id>', 'which version, by the beginning of its id (default: the newest)')
    .option('--read-only', 'refuse writes', false)
    .option('--no-prefetch', 'fetch nothing that is not read')
    .option('--timeout <seconds>', 'how long to wait for a first version', seconds, 60)
}

function unmounts(): string {
  return process.getuid?.() === 0 ? 'umount' : 'fusermount3 -u'
}

/** Serves a version until the user has had enough. */
async function serve(
  context: Context,
  name: string,
  { version, readOnly, prefetch, timeout }: Options,
  how: { mount?: string; at?: (place: ImagePlace) => ImageSpec['nbd'] },
  announce: (
    place: ImagePlace,
    server: ImageProcess
  ) => { event: string; fields: object; text: string }
): Promise<void> {
  const { client, terminal, signal } = context
  const wish = { name, timeout: timeout * 1_000, ...(version === undefined ? {} : { version }) }
  const place = await client.call('open', wish, follow(context))
  const { ImageProcess } = await library()
  const server = await ImageProcess.start({
    items: { ...place.items, prefetch },
    overlays: place.overlays,
    files: null,
    mount: how.mount ?? null,
    nbd: how.at?.(place) ?? null,
    readahead: READAHEAD,
    isReadOnly: readOnly,
    isPatient: false
  })
  const { event, fields, text } = announce(place, server)
  terminal.result(event, { name, version: place.version, pid: server.pid, ...fields }, text)
  const asked = new Promise((resolve) => signal.addEventListener('abort', resolve, { once: true }))
  let left = { dirtyBytes: 0, isDirty: false }
  left = await server.status().catch(() => left)
  let why: string | null | undefined
  const ended = server.exited.then((reason) => (why = reason))
  while (why === undefined && !signal.aborted) {
    await Promise.race([asked, ended, setTimeout(POLL, undefined, { ref: false })])
    left = await server.status().catch(() => left)
  }
  await server.end()
  if (why !== undefined && why !== null) throw new ParcelError('FAILED', why)
  const { dirtyBytes, isDirty } = left
  const hint = `'hyperparcel suspend ${name} --mounted' makes a version of it`
  terminal.result(
    'ended',
    { name, version: place.version, dirtyBytes, isDirty },
    `${name}: ended${isDirty ? `; ${bytes(dirtyBytes)} were written: ${hint}` : ''}`
  )
}

const POLL = 2_000

/** As a part of a URI; slashes stay. */
function inUri(file: string): string {
  return file.split('/').map(encodeURIComponent).join('/')
}
