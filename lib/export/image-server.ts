import { once } from 'node:events'
import { statfsSync } from 'node:fs'
import { ParcelError } from '../errors.js'
import { FuseFileSystem } from './fuse.js'
import { mountFuse, unmountUnserved, type Mounted } from './fuse-mount.js'
import type { ImageSpec, Ready, Request, ServerStatus } from './image-process.js'
import { ImageSet } from './image-set.js'
import { ItemClient } from './item-client.js'
import { LATER } from './launch.js'
import { NbdServer } from './nbd.js'
import { PatientVolume } from './patient-volume.js'
import type { Volume } from '../image/volume.js'
import { WorkingSet } from './working-set.js'

/**
 * The process that serves the images of a version: by FUSE, by NBD, or both. A pause here is a
 * pause of the guest, so nothing else is done in it. Its parent talks to it over node's channel,
 * and it ends when that is closed.
 */
class ImageServer {
  readonly #spec: ImageSpec
  readonly #workingSet: WorkingSet
  readonly #items: ItemClient
  readonly #images: ImageSet
  readonly #volumes: readonly PatientVolume[]
  readonly #mounted: { mount: Mounted; fileSystem: FuseFileSystem } | null
  readonly #nbd: NbdServer | null

  private constructor(
    spec: ImageSpec,
    items: ItemClient,
    images: ImageSet,
    workingSet: WorkingSet,
    volumes: readonly PatientVolume[],
    mounted: { mount: Mounted; fileSystem: FuseFileSystem } | null,
    nbd: NbdServer | null
  ) {
    this.#spec = spec
    this.#workingSet = workingSet
    this.#items = items
    this.#images = images
    this.#volumes = volumes
    this.#mounted = mounted
    this.#nbd = nbd
  }

  static async start(spec: ImageSpec): Promise<ImageServer> {
    const items = await ItemClient.connect(spec.items)
    const workingSet = new WorkingSet(items.known)
    const waiters: PatientVolume[] = []
    const patient = (image: Volume): Volume => {
      const volume = new PatientVolume(image)
      waiters.push(volume)
      return volume
    }
    const images = await ImageSet.open(
      { id: spec.items.version, version: items.version, places: items.places, source: items },
      {
        overlays: spec.overlays,
        onTouch: (path, chunk, pages) => workingSet.touch(path, chunk, pages),
        ...(spec.isPatient ? { wrap: patient } : {}),
        files: spec.files
      }
    )
    const options = { isReadOnly: spec.isReadOnly }
    let nbd: NbdServer | null = null
    if (spec.nbd !== null) {
      nbd =
        'socket' in spec.nbd
          ? await NbdServer.onSocket(spec.nbd.socket, images.volumes, options)
          : await NbdServer.onLoopback(spec.nbd, images.volumes, options)
    }
    let mounted = null
    if (spec.mount !== null) {
      const fileSystem = new FuseFileSystem(images.tree, {
        readahead: spec.readahead,
        isReadOnly: spec.isReadOnly,
        changes: images.changes,
        space: () => spaceOf(spec.overlays)
      })
      const mount = await mountFuse(spec.mount, fileSystem)
      mounted = { mount, fileSystem }
    }
    return new ImageServer(spec, items, images, workingSet, waiters, mounted, nbd)
  }

  get ready(): Ready {
    return { type: 'ready', port: this.#nbd?.port ?? 0, files: [...this.#images.volumes.keys()] }
  }

  /** Settles when it was unmounted from outside; never without a mount. */
  get unmounted(): Promise<void> {
    return this.#mounted?.mount.ended ?? new Promise(() => {})
  }

  status(): ServerStatus {
    return {
      asked: this.#items.asked,
      waiting: this.#items.waiting,
      dirtyBytes: this.#images.dirtyBytes,
      isDirty: this.#images.isDirty,
      used: this.#workingSet.used,
      covered: this.#workingSet.covered,
      known: this.#workingSet.known,
      clients: this.#nbd?.clients ?? 0,
      troubles: this.#volumes.flatMap(({ trouble }) => (trouble === null ? [] : [trouble]))
    }
  }

  async look(path: string, length: number): Promise<{ size: number; head: string }> {
    const volume = this.#images.volumes.get(path)
    if (volume === undefined) throw new ParcelError('FAILED', `${path} is not served`)
    const head = length === 0 ? Buffer.alloc(0) : await volume.read(0, length)
    return { size: volume.size, head: head.toString('base64') }
  }

  async flush(): Promise<void> {
    await this.#images.flush()
    await this.#workingSet.save(this.#spec.overlays)
  }

  /** Fails all that waits, and all that comes: for a monitor that is to be killed. */
  abandon(): void {
    for (const volume of this.#volumes) volume.abandon()
    this.#mounted?.fileSystem.abandon()
    this.#items.close()
  }

  /** Whether this process must be killed for others to be let go. */
  get isHeld(): boolean {
    return this.#mounted?.mount.isHeld === true
  }

  async end(): Promise<void> {
    // What was written through maps comes with the unmount, if nobody uses them any more.
    if (this.#mounted !== null) {
      await this.#mounted.mount.unmount()
      await this.#mounted.mount.ended
    }
    await this.#nbd?.close()
    await this.#images.flush().catch(() => {})
    this.#items.close()
    await this.#images.close()
  }
}

async function main(): Promise<void> {
  let server: ImageServer
  const [, , argument = ''] = process.argv
  const spec: ImageSpec = argument === LATER ? await whatToServe() : JSON.parse(argument)
  const { mount } = spec
  try {
    server = await ImageServer.start(spec)
  } catch (error) {
    if (mount !== null) await unmountUnserved(mount)
    const { code, message } = ParcelError.from(error)
    await tell({ type: 'failed', code, message })
    process.exit(1)
  }
  for (const name of ['SIGINT', 'SIGHUP', 'SIGTERM'] as const) process.on(name, () => {})
  const hungUp = once(process, 'disconnect')
  const ended = new Promise<void>((resolve) => {
    process.on('message', (message) => {
      if (!isOf<Request>(message, 'number')) return
      if (message.verb === 'end') resolve()
      else void answer(server, message)
    })
  })
  await tell(server.ready)
  await Promise.race([hungUp, ended, server.unmounted])
  await server.end()
  if (server.isHeld) process.kill(process.pid, 'SIGKILL')
  process.exit(0)
}

/** What the parent sends first; when it has gone before, there is nothing to do. */
function whatToServe(): Promise<ImageSpec> {
  return new Promise((resolve) => {
    const leave = (): never => process.exit(0)
    process.once('disconnect', leave)
    process.once('message', (message) => {
      if (!isOf<ImageSpec>(message, 'items')) process.exit(1)
      process.off('disconnect', leave)
      resolve(message)
    })
  })
}

/**
 * The parent is of this same program, and nobody else has the channel: a schema would check nothing, and a
 * machine that is resumed would wait until its code is loaded.
 */
function isOf<T extends object>(message: unknown, field: keyof T): message is T {
  return typeof message === 'object' && message !== null && field in message
}

async function answer(
  server: ImageServer,
  { verb, number, path = '', length = 0 }: Request
): Promise<void> {
  try {
    if (verb === 'look') {
      await tell({ type: 'look', number, ...(await server.look(path, length)) })
      return
    }
    if (verb === 'flush') await server.flush()
    if (verb === 'abandon') server.abandon()
    await tell({ type: 'answer', number, status: server.status() })
  } catch (error) {
    const { code, message } = ParcelError.from(error)
    await tell({ type: 'refusal', number, code, message })
  }
}

/** Settles when it was sent, or there is nobody to send it to. */
function tell(message: object): Promise<void> {
  return new Promise((resolve) => {
    if (process.send === undefined || !process.connected) resolve()
    else process.send(message, undefined, undefined, () => resolve())
  })
}

function spaceOf(dir: string): { total: number; free: number } {
  const { blocks, bavail, bsize } = statfsSync(dir)
  return { total: blocks * bsize, free: bavail * bsize }
}

await main()
