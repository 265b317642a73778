import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { readFile, rm } from 'node:fs/promises'
import { isIPv4 } from 'node:net'
import { networkInterfaces } from 'node:os'
import { join } from 'node:path'
import { z } from 'zod'
import { ParcelError } from '../errors.js'
import { writeFileAtomic } from '../keys/at-rest.js'
import { hasCode } from '../paths.js'

const FILE = 'wake'
/** The port of "discard": nobody listens there, and the card of the machine looks at all that comes. */
const PORT = 9
/** A datagram can get lost. */
const TIMES = 3
const MAC = /^[0-9a-f]{2}([:-][0-9a-f]{2}){5}$/i
const MOST = 10_000

/** By host, in hex: where it hears. */
const schema = z
  .record(z.string(), z.string().regex(MAC))
  .refine((all) => Object.keys(all).length <= MOST)

/**
 * Wakes hosts of the network that this one is in, by a frame that their network card knows (Magic Packet
 * Technology, AMD publication 20213): six bytes of ones, then its address sixteen times.
 */
export class Wake {
  readonly #path: string
  #macs: Record<string, string>
  #saving: Promise<void> = Promise.resolve()

  private constructor(path: string, macs: Record<string, string>) {
    this.#path = path
    this.#macs = macs
  }

  /** @internal */
  static async open(home: string): Promise<Wake> {
    const path = join(home, FILE)
    const text = await readFile(path, 'utf8').catch((error: unknown) => {
      if (hasCode(error, 'ENOENT')) return '{}'
      throw error
    })
    try {
      return new Wake(path, schema.parse(JSON.parse(text)))
    } catch (error) {
      throw new ParcelError('INTEGRITY', `${path} cannot be read: delete it`, error)
    }
  }

  /** The address of a host, in hex, on its network; null: it is not known. */
  get(host: string): string | null {
    return this.#macs[host] ?? null
  }

  /** Throws USAGE. */
  async set(host: string, mac: string | null): Promise<void> {
    if (mac !== null && !MAC.test(mac)) {
      throw new ParcelError('USAGE', `not a hardware address: "${mac}" (such as 00:11:22:aa:bb:cc)`)
    }
    const run = this.#saving.then(async () => {
      const { [host]: _, ...others } = this.#macs
      const next =
        mac === null ? others : { ...others, [host]: mac.toLowerCase().replaceAll('-', ':') }
      if (Object.keys(next).length === 0) await rm(this.#path, { force: true })
      else await writeFileAtomic(this.#path, Buffer.from(`${JSON.stringify(next)}\n`))
      this.#macs = next
    })
    this.#saving = run.catch(() => {})
    return run
  }

  /** Sends what wakes a host, in hex; false: it is not known how. Whether it heard it, nobody says. */
  async send(host: string, { port = PORT, to = broadcasts() } = {}): Promise<boolean> {
    const mac = this.get(host)
    if (mac === null) return false
    const address = Buffer.from(mac.replaceAll(':', ''), 'hex')
    const packet = Buffer.concat([
      Buffer.alloc(6, 0xff),
      ...Array.from({ length: 16 }, () => address)
    ])
    const socket = createSocket('udp4')
    try {
      socket.bind()
      await once(socket, 'listening')
      socket.setBroadcast(true)
      for (let n = 0; n < TIMES; n++) {
        for (const where of to) {
          // Of a network that is gone: the next one may be that of the host.
          await new Promise<void>((resolve) => socket.send(packet, port, where, () => resolve()))
        }
      }
      return true
    } finally {
      socket.close()
    }
  }
}

/** Where all hosts of each network that this machine is in hear. */
function broadcasts(): string[] {
  const found = Object.values(networkInterfaces()).flatMap((all = []) =>
    all.flatMap(({ address, netmask, internal }) => {
      if (internal || !isIPv4(address)) return []
      const mask = netmask.split('.').map(Number)
      return [
        address
          .split('.')
          .map((part, n) => Number(part) | (~(mask[n] ?? 255) & 255))
          .join('.')
      ]
    })
  )
  return [...new Set(found)]
}
