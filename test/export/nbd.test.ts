import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { readFile, stat, writeFile } from 'node:fs/promises'
import { createConnection, type Socket } from 'node:net'
import { join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { test, type TestContext } from 'node:test'
import * as fc from 'fast-check'
import { NbdServer } from '../../lib/export/nbd.js'
import type { Volume } from '../../lib/image/volume.js'
import { CHUNK_SIZE, SUBPAGE_SIZE } from '../../lib/format/limits.js'
import type { Image } from '../../lib/image/image.js'
import { Incoming } from '../../lib/incoming.js'
import { openImage, storeFile } from '../image/images.js'
import { eventually } from '../support/hosts.js'
import { onEnd } from '../support/on-end.js'
import { missing, output } from '../support/programs.js'
import { scratch } from '../support/scratch.js'

const SIZE = 48 * CHUNK_SIZE
const FRAMES = 100_000
const MANY = 20_000
const CLIENTS = { skip: missing(['nbdinfo', 'nbdcopy', 'qemu-img', 'qemu-io', 'fio']) }

interface Served {
  dir: string
  socket: string
  uri: string
  image: Image
  contents: Buffer
}

/** One image on a unix socket, under the name "vm/disk.img". */
async function serve(t: TestContext, options: { isReadOnly?: boolean } = {}): Promise<Served> {
  const dir = await scratch(t)
  const file = await storeFile(SIZE)
  const image = await openImage(file, join(dir, 'overlay'))
  const socket = join(dir, 'nbd.sock')
  const volumes = new Map<string, Volume>([['vm/disk.img', image]])
  const server = await NbdServer.onSocket(socket, volumes, options)
  onEnd(t, async () => {
    await server.close()
    await image.close()
  })
  const uri = `nbd+unix:///vm/disk.img?socket=${socket}`
  return { dir, socket, uri, image, contents: file.contents }
}

test('nbdinfo sees the export, its size and what is allocated', CLIENTS, async (t) => {
  const { uri, socket } = await serve(t)
  const info: unknown = JSON.parse(await output('nbdinfo', ['--json', uri]))
  assert.ok(typeof info === 'object' && info !== null && 'exports' in info)
  const [exported] = Array.isArray(info.exports) ? info.exports : []
  assert.deepEqual(
    { ...exported, contexts: exported.contexts },
    {
      ...exported,
      'export-name': 'vm/disk.img',
      'export-size': SIZE,
      contexts: ['base:allocation'],
      is_read_only: false,
      can_flush: true,
      can_fua: true,
      can_multi_conn: true,
      can_trim: true,
      can_zero: true,
      can_cache: true,
      can_df: true
    }
  )
  const list = await output('nbdinfo', ['--list', '--json', `nbd+unix:///?socket=${socket}`])
  assert.match(list, /"export-name": "vm\/disk.img"/)
  const map: unknown = JSON.parse(await output('nbdinfo', ['--map', '--json', uri]))
  assert.ok(Array.isArray(map))
  const holes = map.filter(({ type }) => type === 3).reduce((sum, { length }) => sum + length, 0)
  const chunks = Array.from({ length: 48 }, (_, n) => n)
  const isHole = (n: number): boolean => n % 3 === 1 || n % 5 === 4
  // Some chunks have four pages that are none.
  const pages = chunks.filter((n) => !isHole(n) && n % 8 === 6).length * 4
  assert.equal(holes, chunks.filter(isHole).length * CHUNK_SIZE + pages * SUBPAGE_SIZE)
})

test('nbdcopy reads and writes it over several connections', CLIENTS, async (t) => {
  const { dir, uri, contents, image } = await serve(t)
  const copy = join(dir, 'copy')
  await output('nbdcopy', ['--connections=4', uri, copy])
  assert.deepEqual(await readFile(copy), contents)
  assert.ok((await stat(copy)).blocks * 512 < SIZE)
  const other = randomBytes(SIZE)
  other.fill(0, CHUNK_SIZE, 5 * CHUNK_SIZE)
  await writeFile(copy, other)
  await output('nbdcopy', ['--connections=4', '--flush', copy, uri])
  assert.deepEqual(await image.read(0, SIZE), other)
})

test('QEMU finds what it wrote, and zeros and trims', CLIENTS, async (t) => {
  const { dir, uri, contents, image } = await serve(t)
  const copy = join(dir, 'copy')
  await writeFile(copy, contents)
  await output('qemu-img', ['compare', '-f', 'raw', '-F', 'raw', copy, uri])
  const io = ['-c', 'write -P 7 1k 130k', '-c', 'write -f -P 9 700k 3', '-c', 'write -z 64k 100k']
  await output('qemu-io', ['-f', 'raw', uri, ...io, '-c', 'discard 1M 256k', '-c', 'flush'])
  await output('qemu-io', ['-f', 'raw', copy, ...io, '-c', 'write -z 1M 256k', '-c', 'flush'])
  await output('qemu-img', ['compare', '-f', 'raw', '-F', 'raw', copy, uri])
  assert.deepEqual(await image.read(0, SIZE), await readFile(copy))
})

test('fio reads back what its random writes of odd sizes left', CLIENTS, async (t) => {
  const { uri, dir } = await serve(t)
  const job = ['--name=work', '--ioengine=nbd', `--uri=${uri}`, '--rw=randwrite', `--size=${SIZE}`]
  const sizes = ['--bsrange=512-70k', '--blockalign=512', '--iodepth=32', '--randrepeat=0']
  const verify = ['--verify=crc32c', '--verify_fatal=1', '--do_verify=1']
  const report = ['--output-format=json', `--aux-path=${dir}`]
  const text = await output('fio', [...job, ...sizes, ...verify, ...report])
  const result: unknown = JSON.parse(text.slice(text.indexOf('{')))
  assert.ok(typeof result === 'object' && result !== null && 'jobs' in result)
  const [{ error, read, write }] = Array.isArray(result.jobs) ? result.jobs : []
  assert.equal(error, 0)
  assert.ok(write.io_bytes >= SIZE && read.io_bytes >= SIZE)
})

test('a read-only export takes no write', CLIENTS, async (t) => {
  const { uri, contents, image } = await serve(t, { isReadOnly: true })
  await assert.rejects(output('qemu-io', ['-f', 'raw', uri, '-c', 'write 0 512']))
  const raw = await Client.go(await serve(t, { isReadOnly: true }))
  assert.equal(await raw.request({ type: 1, payload: Buffer.alloc(512) }), 1)
  raw.socket.destroy()
  assert.deepEqual(await image.read(0, SIZE), contents)
})

test('over TCP nothing is to be had without the token', CLIENTS, async (t) => {
  const dir = await scratch(t)
  const file = await storeFile(SIZE)
  const image = await openImage(file, join(dir, 'overlay'))
  const token = 'a-secret-of-this-server'
  const server = await NbdServer.onLoopback({ port: 0, token }, new Map([['disk.img', image]]))
  onEnd(t, () => server.close())
  const at = `nbd://127.0.0.1:${server.port}`
  assert.equal(Number(await output('nbdinfo', ['--size', `${at}/${token}/disk.img`])), SIZE)
  for (const name of ['disk.img', '', 'x/disk.img', `${token}x/disk.img`, token]) {
    await assert.rejects(output('nbdinfo', ['--size', `${at}/${name}`]), name)
  }
  await assert.rejects(output('nbdinfo', ['--list', `${at}/`]))
})

test('requests that cannot be are refused, one by one', async (t) => {
  const served = await serve(t)
  const client = await Client.go(served)
  const { invalid, noSpace, overflow } = { invalid: 22, noSpace: 28, overflow: 75 }
  const big = BigInt(SIZE)
  assert.equal(await client.request({ type: 0, offset: big, length: 1 }), invalid)
  assert.equal(await client.request({ type: 0, offset: 2n ** 63n, length: 1 }), invalid)
  assert.equal(await client.request({ type: 0, length: 2 ** 31 }), overflow)
  assert.equal(
    await client.request({ type: 1, offset: big - 1n, payload: Buffer.alloc(2) }),
    noSpace
  )
  assert.equal(await client.request({ type: 6, offset: big - 1n, length: 2 }), noSpace)
  assert.equal(await client.request({ type: 4, offset: big - 1n, length: 2 }), invalid)
  assert.equal(await client.request({ type: 3, length: 1 }), invalid)
  assert.equal(await client.request({ type: 7, length: 1 }), invalid)
  assert.equal(await client.request({ type: 99 }), invalid)
  assert.equal(await client.request({ type: 1, flags: 2, payload: Buffer.alloc(1) }), invalid)
  assert.equal(await client.request({ type: 3 }), 0)
  client.socket.destroy()
  assert.deepEqual(await served.image.read(0, SIZE), served.contents)
})

test('an error of the volume is the error of its request', async (t) => {
  const dir = await scratch(t)
  const socket = join(dir, 'nbd.sock')
  const fail = (code: string) => async (): Promise<never> => {
    throw Object.assign(new Error(code), { code })
  }
  const volume: Volume = {
    size: SIZE,
    read: fail('INTEGRITY'),
    write: fail('ENOSPC'),
    zero: fail('DISK_FULL'),
    resize: fail('EIO'),
    flush: fail('EIO'),
    stretches: fail('UNREACHABLE')
  }
  const server = await NbdServer.onSocket(socket, new Map([['vm/disk.img', volume]]))
  onEnd(t, () => server.close())
  const client = await Client.go({ socket })
  assert.equal(await client.request({ type: 0, length: 10 }), 5)
  assert.equal(await client.request({ type: 1, payload: Buffer.alloc(10) }), 28)
  assert.equal(await client.request({ type: 6, length: 10 }), 28)
  assert.equal(await client.request({ type: 3 }), 5)
  client.socket.destroy()
})

test('what a client asked for that has left is not carried out, nor listened for', async (t) => {
  const dir = await scratch(t)
  const socket = join(dir, 'nbd.sock')
  let reads = 0
  const none = async (): Promise<never> => {
    throw new Error('only read')
  }
  const volume: Volume = {
    size: SIZE,
    async read(_, length) {
      reads++
      await setTimeout(10)
      return Buffer.alloc(length)
    },
    write: none,
    zero: none,
    resize: none,
    flush: none,
    stretches: none
  }
  const server = await NbdServer.onSocket(socket, new Map([['vm/disk.img', volume]]))
  onEnd(t, () => server.close())
  const warnings: Error[] = []
  const onWarning = (warning: Error): void => void warnings.push(warning)
  process.on('warning', onWarning)
  const client = await Client.go({ socket })
  const one = frame({ type: 0, flags: 0, offset: 0n, length: 512 })
  client.socket.write(Buffer.concat(Array.from({ length: MANY }, () => one)))
  await eventually(async () => (reads > 600 ? true : null), 'a part of it')
  client.socket.destroy()
  await eventually(async () => (server.clients === 0 ? true : null), 'that it has left')
  const asked = reads
  await setTimeout(200)
  process.off('warning', onWarning)
  assert.ok(reads <= asked + 1 && reads < MANY, `${reads} reads, ${asked} when it left`)
  assert.deepEqual(warnings, [])
})

test('whatever a client sends, only its own connection ends', async (t) => {
  const served = await serve(t, { isReadOnly: true })
  let sent = 0
  const u32 = fc.oneof(fc.nat(12), fc.constantFrom(0xffff_ffff, 65_536, 65_537), fc.nat())
  const bytes = fc.uint8Array({ maxLength: 64 })
  const option = fc.tuple(fc.nat(12), u32, bytes, fc.boolean())
  const request = fc.tuple(fc.nat(9), fc.nat(0xffff), u32, u32)
  const before = process.memoryUsage().external
  while (sent < FRAMES) {
    const [options] = fc.sample(fc.array(option, { minLength: 1, maxLength: 8 }), 1)
    const requests = fc.sample(request, 60)
    const socket = await connect(served.socket)
    socket.resume()
    const parts: Buffer[] = [be32(sent % 3 === 0 ? sent : 3)]
    for (const [kind, length, data, isTrue] of options ?? []) {
      const size = isTrue ? data.byteLength : length
      parts.push(Buffer.from('IHAVEOPT'), be32(kind), be32(size), Buffer.from(data))
    }
    if (sent % 2 === 0) {
      // Far enough to have requests read.
      parts.splice(1, Infinity, optionGo('vm/disk.img'))
    }
    for (const [type, flags, offset, length] of requests) {
      parts.push(frame({ type, flags, offset: BigInt(offset), length: length % 100_000 }))
    }
    socket.end(Buffer.concat(parts))
    sent += (options?.length ?? 0) + requests.length
    await closed(socket)
  }
  const client = await Client.go(served)
  assert.equal(await client.request({ type: 3 }), 0)
  client.socket.destroy()
  assert.deepEqual(await served.image.read(0, SIZE), served.contents)
  assert.ok(process.memoryUsage().external < before + 256 * 1_048_576)
})

/** The least of a client: fixed newstyle, simple replies, one request at a time. */
class Client {
  readonly socket: Socket
  readonly #incoming: Incoming

  private constructor(socket: Socket) {
    this.socket = socket
    this.#incoming = new Incoming(socket)
  }

  static async go({ socket: path }: { socket: string }): Promise<Client> {
    const socket = await connect(path)
    socket.write(Buffer.concat([be32(3), optionGo('vm/disk.img')]))
    const client = new Client(socket)
    await client.#take(18)
    for (;;) {
      const head = await client.#take(20)
      await client.#take(head.readUInt32BE(16))
      if (head.readUInt32BE(12) === 1) return client
    }
  }

  /** The error of the reply. */
  async request(wish: {
    type: number
    flags?: number
    offset?: bigint
    length?: number
    payload?: Buffer
  }): Promise<number> {
    const length = wish.length ?? wish.payload?.byteLength ?? 0
    this.socket.write(frame({ flags: 0, offset: 0n, ...wish, length }))
    if (wish.payload !== undefined) this.socket.write(wish.payload)
    const error = (await this.#take(16)).readUInt32BE(4)
    if (wish.type === 0 && error === 0) await this.#take(length)
    return error
  }

  async #take(count: number): Promise<Buffer> {
    const bytes = await this.#incoming.take(count)
    assert.ok(bytes !== null, 'the server hung up')
    return bytes
  }
}

function frame(wish: { type: number; flags: number; offset: bigint; length: number }): Buffer {
  const bytes = Buffer.alloc(28)
  bytes.writeUInt32BE(0x25609513, 0)
  bytes.writeUInt16BE(wish.flags, 4)
  bytes.writeUInt16BE(wish.type, 6)
  bytes.writeBigUInt64BE(wish.offset, 16)
  bytes.writeUInt32BE(wish.length, 24)
  return bytes
}

function optionGo(name: string): Buffer {
  const data = Buffer.concat([be32(name.length), Buffer.from(name), Buffer.alloc(2)])
  return Buffer.concat([Buffer.from('IHAVEOPT'), be32(7), be32(data.byteLength), data])
}

function be32(value: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32BE(value)
  return bytes
}

async function connect(path: string): Promise<Socket> {
  const socket = createConnection(path)
  socket.on('error', () => {})
  await once(socket, 'connect')
  return socket
}

async function closed(socket: Socket): Promise<void> {
  if (!socket.destroyed) await once(socket, 'close')
}
