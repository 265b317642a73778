import { spawn, type ChildProcess } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { ALLOCATOR } from '../tuning.js'

/** Requests that block, on the FUSE device and on disks, take threads; packs are opened on them too. */
const THREADS = 16
/** Images are in buffers outside of it; it holds maps and requests. */
const HEAP_MIB = 256

/** In place of what a process is started with: that comes later. */
export const LATER = 'later'

/** Starts a process that serves images, by another program if there is one that must come before it. */
export function launchImages(by: readonly string[], argument: string): ChildProcess {
  return launch(by, [argument])
}

/**
 * One that `ImageProcess.start` need not wait for: it is up when it is known what there is to serve, which it
 * gets as its first message. `dir` tells people whose it is. Nothing but Node's own is loaded for it here.
 */
export function prepareImages(dir: string): ChildProcess {
  const child = launch([], [LATER, dir])
  // That it could not be started is noticed when it is to serve.
  child.on('error', () => {})
  return child
}

function launch(by: readonly string[], args: readonly string[]): ChildProcess {
  const program = fileURLToPath(new URL('./image-server.js', import.meta.url))
  const flags = [`--max-old-space-size=${HEAP_MIB}`, '--max-semi-space-size=8']
  const [command, ...rest] = [...by, process.execPath, ...flags, program, ...args]
  return spawn(command ?? process.execPath, rest, {
    cwd: '/',
    // In a session of its own: a Ctrl-C in our terminal is ours to deal with.
    detached: true,
    env: { ...ALLOCATOR, ...process.env, UV_THREADPOOL_SIZE: String(THREADS) },
    stdio: ['ignore', 'ignore', 'inherit', 'ipc']
  })
}
