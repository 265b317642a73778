// A host of the resume bench, on its side of the link: host-process.js HOME BOOTSTRAP
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { setTimeout } from 'node:timers/promises'
import { Host, type ResumeOptions } from '../../../lib/index.js'
import { serve } from '../across/end.js'

const NAME = 'work'
const [home = '', bootstrap = ''] = process.argv.slice(2)
let opened: Host | null = null
let release = (): void => {}

function host(): Host {
  if (opened === null) throw new Error('no host is open')
  return opened
}

async function isHere(id: string): Promise<boolean> {
  const versions = await host().log(NAME)
  return versions.some((version) => version.id === id && version.isHere)
}

/** What the guest says when it has done something. */
const PAST: Record<string, string> = { write: 'wrote', fill: 'filled' }

/**
 * Types commands on the guest's console, each when the one before was answered; returns seconds.
 * `isBooting`: waits for its first words before.
 */
async function session(commands: readonly string[], isBooting = false): Promise<number> {
  const started = performance.now()
  const console = await host().attach(NAME)
  let text = ''
  console.on('data', (bytes: Buffer) => (text += bytes.toString('latin1')))
  const ended = once(console, 'close').then(() => {
    throw new Error(`the guest ended: ${text.slice(-200)}`)
  })
  ended.catch(() => {})
  const hear = async (words: RegExp, from: number): Promise<void> => {
    while (!words.test(text.slice(from))) await Promise.race([once(console, 'data'), ended])
  }
  if (isBooting) await hear(/^tick/m, 0)
  // What was said before is said again to who attaches: only this is new.
  const token = `now${Math.random().toString(36).slice(2)}`
  console.write(`marker ${token}\n`)
  await hear(new RegExp(`^marker ${token}`, 'm'), 0)
  for (const command of commands) {
    const [word = ''] = command.split(' ')
    const from = text.length
    console.write(`${command}\n`)
    await hear(new RegExp(`^${PAST[word] ?? word} \\S+`, 'm'), from)
  }
  console.destroy()
  return (performance.now() - started) / 1_000
}

serve(
  {
    async create(name = '') {
      opened = await Host.create({ home, bootstrap, name })
    },
    async open() {
      opened = await Host.open({ home, bootstrap })
      const held = opened.hold(NAME)
      release = () => {
        held()
        release = () => {}
      }
    },
    async close() {
      await opened?.close()
      opened = null
    },
    add: async (path = '', vm = 'qemu') => host().add(path, { name: NAME, vm }),
    run: async () => host().run(NAME),
    suspend: async () => {
      const started = performance.now()
      const { version } = await host().suspend(NAME)
      return {
        seconds: (performance.now() - started) / 1_000,
        stored: version.stored,
        id: version.id
      }
    },
    invite: async () => (await host().invite(NAME)).invite,
    join: async (invite = '') => host().join(invite, { name: NAME }),
    /** Waits until a version is known here. */
    async knows(id = '') {
      for (;;) {
        const { heads } = await host().status(NAME)
        if (heads.some((head) => head.id === id)) return
        await setTimeout(20)
      }
    },
    async resume(policy = '', to = '', version = '') {
      const how = policy === 'baseline' || policy === 'hoard' ? policy : 'demand'
      const wish: ResumeOptions = {
        policy: how,
        to,
        timeout: 600_000,
        ...(version === '' ? {} : { version })
      }
      // A resume on demand holds the rest back by itself until the machine runs.
      if (how !== 'demand') release()
      const started = performance.now()
      const { blocks } = await host().resume(NAME, wish)
      // From here on it may come, as for anybody.
      release()
      return { seconds: (performance.now() - started) / 1_000, ...blocks }
    },
    /** Where image servers find the newest version. */
    place: async () => host().open(NAME),
    /** Waits until all of a version is here: a later one may be of a host that was measured, and is no more. */
    async hoard(id = '') {
      release()
      while (!(await isHere(id))) await setTimeout(50)
    },
    boot: async () => session([], true),
    session: async (...commands) => session(commands),
    status: async () => host().status(NAME),
    stop: async () => host().stop(NAME),
    /** Bytes that came to this side of the link. */
    received: async () => {
      const lines = readFileSync('/proc/net/dev', 'utf8').split('\n')
      const counts = lines.filter((line) => /:/.test(line) && !/^\s*lo:/.test(line))
      return counts.reduce(
        (sum, line) => sum + Number(line.split(':')[1]?.trim().split(/\s+/)[0]),
        0
      )
    }
  },
  async () => {
    await opened?.stop(NAME).catch(() => {})
    await opened?.close()
  }
)
