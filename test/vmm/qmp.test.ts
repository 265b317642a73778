import assert from 'node:assert/strict'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { connect, createServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { test, type TestContext } from 'node:test'
import { ParcelError } from '../../lib/errors.js'
import { Qmp, type QmpOptions } from '../../lib/vmm/qmp.js'

const GREETING = '{"QMP": {"version": {}, "capabilities": []}}\r\n'

interface Command {
  execute: string
  arguments: Record<string, unknown>
  id: number
}

type Script = (command: Command, socket: Socket) => void

test('answers are matched to commands by id, with events in between', async (t) => {
  const held: number[] = []
  const qmp = await openQmp(t, ({ execute, id }, socket) => {
    if (execute === 'slow') held.push(id)
    else {
      socket.write('{"event": "STOP", "data": {"n": 1}, "timestamp": {}}\n')
      socket.write(`{"return": {"is": "${execute}"}, "id": ${id}}\n{"event": "RESUME"}\n`)
      socket.write(`{"return": {"is": "slow"}, "id": ${held[0]}}\n`)
    }
  })
  const events: unknown[] = []
  qmp.on('event', ({ event, data }) => events.push([event, data]))
  const answers = await Promise.all([qmp.execute('slow'), qmp.execute('quick')])
  assert.deepEqual(answers, [{ is: 'slow' }, { is: 'quick' }])
  assert.deepEqual(events, [
    ['STOP', { n: 1 }],
    ['RESUME', {}]
  ])
})

test('arguments reach the server, in utf-8', async (t) => {
  let got: unknown
  const qmp = await openQmp(t, (command, socket) => {
    got = command.arguments
    socket.write(`{"return": {}, "id": ${command.id}}\n`)
  })
  await qmp.execute('migrate', { uri: 'unix:é' })
  assert.deepEqual(got, { uri: 'unix:é' })
})

test('an answer in pieces, also within a character, and two answers in one piece', async (t) => {
  const qmp = await openQmp(t, ({ execute, id }, socket) => {
    const bytes = Buffer.from(`{"return": "${execute} é", "id": ${id}}\r\n`)
    if (execute === 'pieces')
      writeEach(
        socket,
        [...bytes].map((byte) => Buffer.from([byte]))
      )
    if (execute === 'first')
      socket.write(`{"return": 2, "id": ${id + 1}}\n{"return": 1, "id": ${id}}\n`)
  })
  assert.equal(await qmp.execute('pieces'), 'pieces é')
  assert.deepEqual(await Promise.all([qmp.execute('first'), qmp.execute('second')]), [1, 2])
})

test("a refusal carries the server's words", async (t) => {
  const qmp = await openQmp(t, ({ id }, socket) => {
    socket.write(`{"error": {"class": "GenericError", "desc": "no such thing"}, "id": ${id}}\n`)
  })
  await assert.rejects(qmp.execute('cont'), failure(/'cont': no such thing/))
})

test('a closed connection rejects what waits, what comes after, and is announced once', async (t) => {
  const qmp = await openQmp(t, (_, socket) => socket.end())
  const reasons: unknown[] = []
  qmp.on('close', (error) => reasons.push(error.message))
  const both = [qmp.execute('stop'), qmp.execute('cont')]
  for (const one of both) await assert.rejects(one, failure(/closed the connection/))
  await assert.rejects(qmp.execute('quit'), failure(/closed the connection/))
  qmp.close()
  assert.deepEqual(reasons, ['QEMU closed the connection'])
})

test('a server that ends, or says nothing, before its greeting', async (t) => {
  await assert.rejects(Qmp.open(await serve(t, (socket) => socket.end())), failure(/closed/))
  const silent = await serve(t, () => {})
  await assert.rejects(Qmp.open(silent, { timeout: 20 }), failure(/did not greet within/))
  assert.ok(silent.destroyed)
})

test('no answer in time; a late one harms nothing', async (t) => {
  let late = ''
  const qmp = await openQmp(t, ({ execute, id }, socket) => {
    if (execute === 'stop') late = `{"return": "late", "id": ${id}}\n`
    else socket.write(`${late}{"return": "quick", "id": ${id}}\n`)
  })
  await assert.rejects(qmp.execute('stop', {}, 20), failure(/did not answer 'stop' within/))
  assert.equal(await qmp.execute('query-status'), 'quick')
})

test('a line over the limit, and what is not QMP, end the connection', async (t) => {
  const long = Buffer.alloc(2000, 'x')
  const flood = await openQmp(t, (_, socket) => socket.write(long), { lineLimit: 1000 })
  await assert.rejects(flood.execute('stop'), failure(/line of more than 1000 bytes/))
  for (const line of ['nonsense\n', '{"return": {}}\n', '[]\n', '{"event": 1}\n']) {
    const qmp = await openQmp(t, (_, socket) => socket.write(line))
    await assert.rejects(qmp.execute('stop'), failure(/what is not QMP/))
  }
  const confused = await openQmp(t, (_, socket) => socket.write('{"error": {"desc": "JSON"}}\n'))
  await assert.rejects(confused.execute('stop'), failure(/could not read our command/))
})

/** A client of a server that greets, accepts `qmp_capabilities`, and then follows the script. */
async function openQmp(t: TestContext, script: Script, options: QmpOptions = {}): Promise<Qmp> {
  const stream = await serve(t, (socket) => {
    socket.write(GREETING)
    createInterface({ input: socket }).on('line', (line) => {
      const command: Command = JSON.parse(line)
      if (command.execute === 'qmp_capabilities')
        socket.write(`{"return": {}, "id": ${command.id}}\n`)
      else script(command, socket)
    })
  })
  const qmp = await Qmp.open(stream, options)
  t.after(() => qmp.close())
  return qmp
}

async function serve(t: TestContext, onSocket: (socket: Socket) => void): Promise<Socket> {
  const dir = await mkdtemp(join(tmpdir(), 'hyperparcel-qmp-'))
  const server = createServer((socket) => {
    socket.on('error', () => {})
    onSocket(socket)
  })
  server.listen(join(dir, 'qmp.sock'))
  await once(server, 'listening')
  const socket = connect(join(dir, 'qmp.sock'))
  t.after(async () => {
    socket.destroy()
    server.close()
    await rm(dir, { recursive: true })
  })
  return socket
}

/** Each piece in a packet of its own. */
function writeEach(socket: Socket, pieces: Buffer[]): void {
  const [first, ...rest] = pieces
  if (first !== undefined) socket.write(first, () => setImmediate(writeEach, socket, rest))
}

function failure(message: RegExp): (error: unknown) => boolean {
  return (error) =>
    error instanceof ParcelError && error.code === 'VMM_FAILED' && message.test(error.message)
}
