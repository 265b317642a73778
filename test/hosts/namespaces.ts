import { execFileSync, spawnSync } from 'node:child_process'

const made = new Set<string>()

/** A network namespace that goes away with this process, and what runs in it, should nobody delete it before. */
export function addNamespace(name: string): void {
  execFileSync('ip', ['netns', 'add', name], { stdio: ['ignore', 'ignore', 'pipe'] })
  made.add(name)
}

export function deleteNamespace(name: string): void {
  spawnSync('ip', ['netns', 'del', name], { stdio: 'ignore' })
  made.delete(name)
}

process.on('exit', () => {
  for (const name of made) {
    const { stdout } = spawnSync('ip', ['netns', 'pids', name], { encoding: 'utf8' })
    for (const pid of stdout.split('\n').filter((line) => line !== '')) {
      try {
        process.kill(Number(pid), 'SIGKILL')
      } catch {
        // It ended by itself meanwhile.
      }
    }
    deleteNamespace(name)
  }
})
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.once(signal, () => process.exit(130))
}
