// Runs every example, each in a process of its own, and stops at the first that fails.
import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'

for (const name of ['two-hosts', 'suspend-resume', 'share-a-folder']) {
  console.log(`\n— ${name}`)
  const program = fileURLToPath(new URL(`./${name}.js`, import.meta.url))
  const { status, signal } = spawnSync(process.execPath, [program], {
    stdio: 'inherit',
    timeout: 120_000
  })
  if (status !== 0) {
    console.error(`${name} failed: ${signal ?? `status ${status}`}`)
    process.exit(1)
  }
}
